"""Against torch transformers in fp32: logits, the gradient of every parameter, and twenty steps of AdamW."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from xlam_jax.models import decoder
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.models.hf_config import config_to_hf
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import hf_entries, params_from_state_dict, state_dict_from_params

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(2)

BASE = named_config("tiny-llama")
CONFIGS = {
    "llama": BASE,
    "llama-linear-rope": named_config("tiny-llama-linear"),
    "llama-tied": named_config("tiny-llama-tied"),
    "llama-odd-heads": BASE.replace(hidden_size=72, num_heads=9, num_kv_heads=3, head_dim=8),
    "mistral-wide-heads": named_config("tiny-mistral").replace(head_dim=32),
    "mistral-window": named_config("tiny-mistral"),
    "mistral-no-window": named_config("tiny-mistral").replace(sliding_window=None, rope_theta=1e6),
}
B, S = 2, 40  # longer than the window of 8


def torch_model(cfg):
    torch.manual_seed(0)
    values = {k: v for k, v in config_to_hf(cfg).items() if k not in ("architectures", "torch_dtype")}
    config = transformers.AutoConfig.for_model(**values)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32
    )
    with torch.no_grad():
        for name, p in model.named_parameters():
            # Norm scales off one, and matrices large enough that attention is not uniform.
            p.copy_(1 + 0.2 * torch.randn_like(p) if p.ndim == 1 else 0.12 * torch.randn_like(p))
            assert p.dtype == torch.float32, name
    return model.eval()


def state_of(model):
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def token_batch(cfg, seed=0, rows=B):
    # From 1: torch gives the embedding of the padding id no gradient even where it is an ordinary input.
    return np.random.default_rng(seed).integers(1, cfg.vocab_size, (rows, S))


@functools.partial(jax.jit, static_argnums=2)
def our_hidden(params, tokens, cfg):
    shape = tokens.shape
    positions = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    return decoder.forward(params, tokens, positions, jnp.ones(shape, jnp.int32), cfg)[0]


def our_loss(params, tokens, cfg):
    hidden = our_hidden(params, tokens, cfg)[:, :-1]
    targets = tokens[:, 1:]
    weights = jnp.ones(targets.shape)
    total, weight, _ = chunked_cross_entropy(hidden, decoder.head_matrix(params), targets, weights, 16)
    return total / weight


def torch_loss(model, tokens):
    logits = model(torch.tensor(tokens), use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), torch.tensor(tokens[:, 1:]).ravel()
    )


@pytest.fixture(scope="module", params=CONFIGS, ids=str)
def pair(request):
    cfg = CONFIGS[request.param]
    model = torch_model(cfg)
    return cfg, model, params_from_state_dict(state_of(model), cfg)


def test_logits(pair):
    cfg, model, params = pair
    tokens = token_batch(cfg)
    with torch.no_grad():
        theirs = model(torch.tensor(tokens), use_cache=False).logits.numpy()
    ours = decoder.logits(params, our_hidden(params, jnp.asarray(tokens), cfg), cfg)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_window_and_rope_matter():
    """The parity above would be empty if the switches changed nothing."""
    cfg = CONFIGS["mistral-window"]
    params = params_from_state_dict(state_of(torch_model(cfg)), cfg)
    tokens = jnp.asarray(token_batch(cfg))
    base = our_hidden(params, tokens, cfg)
    for other in (cfg.replace(sliding_window=None), cfg.replace(rope_theta=1e6)):
        assert float(jnp.abs(our_hidden(params, tokens, other) - base).max()) > 1e-2


def test_gradient_of_every_parameter(pair):
    cfg, model, params = pair
    tokens = token_batch(cfg, seed=1)
    model.zero_grad()
    loss = torch_loss(model, tokens)
    loss.backward()
    ours, grads = jax.jit(jax.value_and_grad(our_loss), static_argnums=2)(params, jnp.asarray(tokens), cfg)
    np.testing.assert_allclose(ours, loss.item(), rtol=1e-5)
    grads = state_dict_from_params(grads, cfg)
    theirs = {name: p.grad.numpy() for name, p in model.named_parameters()}
    assert set(grads) == set(theirs) == set(hf_entries(cfg))
    for name, right in theirs.items():
        assert np.abs(grads[name] - right).max() <= 1e-4 * np.abs(right).max(), name


@pytest.mark.parametrize("name", ["llama-linear-rope", "mistral-window", "llama-tied"])
def test_twenty_steps_of_adamw(name):
    cfg = CONFIGS[name]
    model = torch_model(cfg)
    params = jax.tree.map(jnp.asarray, params_from_state_dict(state_of(model), cfg))
    hyper = {"b1": 0.9, "b2": 0.95, "eps": 1e-8, "weight_decay": 0.1}
    tx = optax.adamw(1e-3, **hyper)
    theirs = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)

    @jax.jit
    def step(params, state, tokens):
        loss, grads = jax.value_and_grad(our_loss)(params, tokens, cfg)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    state = tx.init(params)
    ours_curve, their_curve = [], []
    for i in range(20):
        tokens = token_batch(cfg, seed=i % 4, rows=4)
        theirs.zero_grad()
        loss = torch_loss(model, tokens)
        loss.backward()
        theirs.step()
        params, state, our = step(params, state, jnp.asarray(tokens))
        ours_curve.append(float(our))
        their_curve.append(loss.item())
    assert their_curve[-1] < their_curve[0] - 0.5  # it did learn something
    np.testing.assert_allclose(ours_curve, their_curve, rtol=1e-4)
