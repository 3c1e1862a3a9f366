"""What an ablation is made of: commands with gaps, and what each arm and seed puts into them."""

from __future__ import annotations

from pydantic import Field

from xlam_jax.config import Config
from xlam_jax.errors import InputError, unknown


class AblationConfig(Config):
    """An ablation of `xlam ablate`.

    Attributes:
      out: folder of the ablation; stages that lie in it are not made again.
      seeds: each arm is made once per seed, which is `{seed}` in commands.
      variables: texts that commands name in braces.
      stages: name -> the words of an `xlam` command without `xlam`. `{here}` is the stage's own folder, `{NAME}` that
        of another stage, or a variable. What a command reads has to be named in it.
      arms: name -> variables of this arm, in the place of those above.
      baseline: the arm that the others are compared with; the first when left out.
      result: the stage that writes generations.jsonl into its folder (`xlam eval bfcl` or another, with
        `--out {here}`).
      training: the stage whose budget is compared over the arms; "" for none.
      score: "ast" (right by BFCL's rules), "strict", or a number that the evaluation has of each row, such as "reward".
      discard: stages whose folders are removed once all results that need them are there, such as runs with their
        checkpoints.
    """

    out: str
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    variables: dict[str, str | int | float] = Field(default={})
    stages: dict[str, str | list[str]] = Field(min_length=1)
    arms: dict[str, dict[str, str | int | float]] = Field(min_length=1)
    baseline: str = ""
    result: str = "eval"
    training: str = "train"
    score: str = "ast"
    discard: list[str] = Field(default=[])

    @property
    def compared_with(self) -> str:
        """The baseline's name."""
        return self.baseline or next(iter(self.arms))


def check_names(config: AblationConfig) -> None:
    """Looks whether every stage and arm that a key names is there.

    Raises:
      InputError: one is not (names the nearest), or a seed stands twice.
    """
    training = [config.training] if config.training else []
    for key, names in {"result": [config.result], "training": training, "discard": config.discard}.items():
        for name in names:
            if name not in config.stages:
                raise unknown("stage", name, config.stages, where=key)
    if config.compared_with not in config.arms:
        raise unknown("arm", config.baseline, config.arms, where="baseline")
    if len(set(config.seeds)) < len(config.seeds):
        raise InputError("a seed is there twice", where="seeds")
