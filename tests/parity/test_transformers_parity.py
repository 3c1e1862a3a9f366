"""Against torch transformers in fp32: logits, the gradient of every parameter, and twenty steps of AdamW."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.cases import long_but
from xlam_jax.models import decoder
from xlam_jax.models.config import RopeScaling
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.models.hf_config import config_to_hf
from xlam_jax.models.named import named_config
from xlam_jax.models.routing import load_balance_loss
from xlam_jax.models.spec import hf_entries, params_from_state_dict, state_dict_from_params

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

BASE, _V2 = named_config("tiny-llama"), named_config("tiny-deepseek-v2")
CONFIGS = {
    "llama": BASE,
    "llama-linear-rope": named_config("tiny-llama-linear"),
    "llama-tied": named_config("tiny-llama-tied"),
    "llama-odd-heads": BASE.replace(hidden_size=72, num_heads=9, num_kv_heads=3, head_dim=8),
    "mistral-wide-heads": named_config("tiny-mistral").replace(head_dim=32),
    "mistral-window": named_config("tiny-mistral"),
    "llama3-rope": named_config("tiny-llama3").replace(max_position_embeddings=128),
    "llama-yarn": BASE.replace(rope_scaling=RopeScaling("yarn", 4.0, 16)),
    "llama-dynamic": BASE.replace(rope_scaling=RopeScaling("dynamic", 2.0), max_position_embeddings=24),
    "qwen2": named_config("tiny-qwen2"),
    "qwen3": named_config("tiny-qwen3"),
    "mixtral": named_config("tiny-mixtral"),
    "mixtral-window": named_config("tiny-mixtral").replace(sliding_window=8),
    "qwen3-moe": named_config("tiny-qwen3-moe"),
    "deepseek-v2": named_config("tiny-deepseek-v2"),
    "deepseek-v2-groups": _V2.replace(
        moe=dataclasses.replace(_V2.moe, n_group=4, topk_group=2),
        latent=dataclasses.replace(_V2.latent, q_rank=24),
    ),
    "deepseek-v2-yarn": _V2.replace(
        rope_scaling=RopeScaling("yarn", 4.0, 16, mscale=0.7, mscale_all_dim=0.7)
    ),
    "deepseek-v3": named_config("tiny-deepseek-v3"),
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
        for name, b in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                b.copy_(0.3 * torch.randn_like(b))
    return model.eval()


def state_of(model):
    """The hub's names and shapes; transformers 5 holds the experts of a layer in two arrays."""
    bias = {n: b for n, b in model.named_buffers() if n.endswith("e_score_correction_bias")}
    return per_expert({**dict(model.named_parameters()), **bias}, model.config.model_type)


def per_expert(tensors, model_type):
    block, names = "mlp", ("gate_proj", "up_proj", "down_proj")
    if model_type == "mixtral":
        block, names = "block_sparse_moe", ("w1", "w3", "w2")
    out = {}
    for name, tensor in tensors.items():
        array = tensor.detach().numpy().copy()
        if ".mlp." in name:
            name = name.replace(".mlp.", f".{block}.")
        head, _, what = name.rpartition(".experts.")
        for e in range(len(array) if head else 0):
            gate, up = np.split(array[e], 2) if what == "gate_up_proj" else (None, None)
            parts = {names[2]: array[e]} if what == "down_proj" else {names[0]: gate, names[1]: up}
            out |= {f"{head}.experts.{e}.{k}.weight": part for k, part in parts.items()}
        if not head:
            out[name] = array
    return out


def token_batch(cfg, seed=0, rows=B):
    # From 1: torch gives the embedding of the padding id no gradient even where it is an ordinary input.
    return np.random.default_rng(seed).integers(1, cfg.vocab_size, (rows, S))


@functools.partial(jax.jit, static_argnums=2)
def our_hidden(params, tokens, cfg):
    shape = tokens.shape
    positions = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    return decoder.forward(params, tokens, positions, jnp.ones(shape, jnp.int32), cfg)[0]


def our_loss(params, tokens, cfg):
    """(loss, logits of all positions)."""
    hidden, targets = our_hidden(params, tokens, cfg), tokens[:, 1:]
    head, weights = decoder.head_matrix(params), jnp.ones(targets.shape)
    total, weight, _ = chunked_cross_entropy(hidden[:, :-1], head, targets, weights, 16)
    return total / weight, decoder.logits(params, hidden, cfg)


our_gradients = jax.jit(jax.value_and_grad(our_loss, has_aux=True), static_argnums=2)


def torch_loss(model, tokens):
    logits = model(torch.tensor(tokens), use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), torch.tensor(tokens[:, 1:]).ravel()
    )


@pytest.fixture(scope="module", params=CONFIGS, ids=str)
def pair(request):
    cfg = CONFIGS[request.param]
    model = torch_model(cfg)
    params = params_from_state_dict(state_of(model), cfg)

    @functools.cache
    def ours(seed):
        """((loss, logits), gradients) of a batch; compiling is what costs, so there is one program for all."""
        return our_gradients(params, jnp.asarray(token_batch(cfg, seed)), cfg)

    return cfg, model, ours


def test_logits(pair):
    cfg, model, ours = pair
    with torch.no_grad():
        theirs = model(torch.tensor(token_batch(cfg)), use_cache=False).logits.numpy()
    (_, logits), _ = ours(0)
    assert np.abs(logits - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_window_and_rope_matter():
    """The parity above would be empty if the switches changed nothing."""
    cfg = CONFIGS["mistral-window"]
    params = params_from_state_dict(state_of(torch_model(cfg)), cfg)
    tokens = jnp.asarray(token_batch(cfg))
    base = our_hidden(params, tokens, cfg)
    for other in (cfg.replace(sliding_window=None), cfg.replace(rope_theta=1e6)):
        assert float(jnp.abs(our_hidden(params, tokens, other) - base).max()) > 1e-2


def test_gradient_of_every_parameter(pair):
    cfg, model, ours = pair
    model.zero_grad()
    loss = torch_loss(model, token_batch(cfg, seed=1))
    loss.backward()
    (our, _), grads = ours(1)
    np.testing.assert_allclose(our, loss.item(), rtol=1e-5)
    grads = state_dict_from_params(grads, cfg)
    theirs = per_expert({name: p.grad for name, p in model.named_parameters()}, cfg.family)
    biases = {name for name in grads if name.endswith("e_score_correction_bias")}
    assert set(grads) - biases == set(theirs) and set(grads) == set(hf_entries(cfg))
    assert all(np.all(grads[name] == 0) for name in biases)  # it takes part in choosing only
    for name, right in theirs.items():
        assert np.abs(grads[name] - right).max() <= 1e-4 * np.abs(right).max(), name


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe"])
@pytest.mark.parametrize("padding", [0, 7])
def test_load_balance_loss(name, padding):
    """Value and gradient of the auxiliary loss alone; padding does not count."""
    cfg = CONFIGS[name]
    model = torch_model(cfg)
    params = jax.tree.map(jnp.asarray, params_from_state_dict(state_of(model), cfg))
    tokens = token_batch(cfg)
    mask = np.ones(tokens.shape, np.int32)
    mask[1, S - padding :] = 0
    out = model(
        torch.tensor(tokens), attention_mask=torch.tensor(mask), output_router_logits=True, use_cache=False
    )
    out.aux_loss.backward()

    def ours(params):
        positions = jnp.broadcast_to(jnp.arange(S), tokens.shape)
        _, sums = decoder.forward(params, jnp.asarray(tokens), positions, jnp.asarray(mask), cfg)
        return load_balance_loss(sums["router_count"], sums["router_prob"], sums["router_tokens"], cfg.moe)

    value, grads = jax.jit(jax.value_and_grad(ours))(params)
    np.testing.assert_allclose(value, out.aux_loss.item(), rtol=1e-5)
    router = [n for n in hf_entries(cfg) if n.endswith(".gate.weight")]
    grads = state_dict_from_params(grads, cfg)
    theirs = {n: p.grad for n, p in model.named_parameters() if n.endswith(".gate.weight")}
    theirs = per_expert(theirs, cfg.family)
    assert len(router) == len(theirs) == cfg.num_layers
    for n in router:
        np.testing.assert_allclose(grads[n], theirs[n], atol=1e-4 * np.abs(theirs[n]).max())


@pytest.mark.parametrize(
    "name",
    long_but(
        ("mistral-window",),
        (
            "llama-linear-rope",
            "mistral-window",
            "llama-tied",
            "qwen3",
            "mixtral",
            "deepseek-v3",
            "deepseek-v2",
        ),
    ),
)
def test_twenty_steps_of_adamw(name):
    cfg = CONFIGS[name]
    model = torch_model(cfg)
    with torch.no_grad():
        # Scores lie in (0, 1), so biases of this size settle every choice: rounding cannot turn one over, after
        # which two right programs part ways.
        for buffer, b in model.named_buffers():
            if buffer.endswith("e_score_correction_bias"):
                b.copy_(10 * torch.randn_like(b))
    params = jax.tree.map(jnp.asarray, params_from_state_dict(state_of(model), cfg))
    hyper = {"b1": 0.9, "b2": 0.95, "eps": 1e-8, "weight_decay": 0.1}
    tx = optax.adamw(1e-3, **hyper)
    theirs = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)

    @jax.jit
    def step(params, state, tokens):
        (loss, _), grads = jax.value_and_grad(our_loss, has_aux=True)(params, tokens, cfg)
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
