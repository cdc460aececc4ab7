"""What every network that paints pictures is trained for: likeness to a true picture, and a discriminator's judgement.

`PictureObjective` is for a generator that needs nothing else: eqs. 1 to 3 of "Compressing video calls using synthetic
talking heads" (Agarwal et al. 2022), which train the frame interpolation and the super-resolution.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from avfr_jax import losses
from avfr_jax.backbones.lpips import Lpips, LpipsKind
from avfr_jax.backbones.perceptual import PerceptualName
from avfr_jax.errors import ConfigError
from avfr_jax.metrics import image
from avfr_jax.models.discriminators import DiscriminatorConfig, judgement_size
from avfr_jax.training.objective import Gradients, Variables
from avfr_jax.typing import Array


@dataclasses.dataclass(frozen=True)
class PictureLossConfig:
    """Weights of the losses of a picture; the defaults are FOMM's `vox-adv-256`.

    Attributes:
      perceptual: of each layer of the perceptual network, at every scale.
      perceptual_network: which frozen network: see `avfr_jax.backbones`.
      normalise_perceptual: count every layer alike, whatever the size of its features.
      scales: of the image pyramid on which pictures are compared.
      pyramid_l1: of the mean absolute difference over the pyramid.
      lpips: of LPIPS, at the picture's own size.
      lpips_network: its backbone.
      structural: of 1 - SSIM.
      gan: the adversarial terms' form.
      generator_gan: of the generator's adversarial term; 0 trains no discriminator.
      discriminator_gan: of the discriminator's.
      feature_matching: of each of the discriminator's feature maps.
    """

    perceptual: tuple[float, ...] = (10.0,) * 5
    perceptual_network: PerceptualName = "vgg19"
    normalise_perceptual: bool = False
    scales: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    pyramid_l1: float = 0.0
    lpips: float = 0.0
    lpips_network: LpipsKind = "alex"
    structural: float = 0.0
    gan: losses.GanKind = "least_squares"
    generator_gan: float = 1.0
    discriminator_gan: float = 1.0
    feature_matching: tuple[float, ...] = (10.0,) * 4


class FeatureNetwork(NamedTuple):
    """A frozen network for the perceptual loss.

    Attributes:
      apply: (weights, images in [0, 1]) -> feature maps.
      weights: its pytree.
      note: which network it is, in a sentence.
    """

    apply: Callable[[Any, Any], Sequence[Any]]
    weights: Any
    note: str


def apply_module(module: Any, variables: dict[str, Any], train: bool, *arguments: Any, **named: Any) -> Any:
    """Apply a Flax module -> its output, and its updated collections (none without `train`)."""
    if not train:
        return module.apply(variables, *arguments, train=False, **named), {}
    mutable = [name for name in variables if name != "params"]
    return module.apply(variables, *arguments, train=True, mutable=mutable, **named)


def frozen_networks(
    loss: PictureLossConfig, features: FeatureNetwork | None, lpips: Lpips | None, discriminator: DiscriminatorConfig
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The frozen networks of the losses: weights by name, and what they are in a sentence each.

    Raises:
      ConfigError: another number of feature-matching weights than the discriminator has blocks, or `loss.lpips`
        without its network.
    """
    if loss.generator_gan > 0 and len(loss.feature_matching) != discriminator.num_blocks:
        raise ConfigError(
            f"losses.feature_matching holds {len(loss.feature_matching)} weights for a discriminator of "
            f"{discriminator.num_blocks} blocks (model.discriminator.num_blocks); give one a block."
        )
    if loss.lpips and lpips is None:
        raise ConfigError("losses.lpips is a weight, but no LPIPS network was given.")
    frozen: dict[str, Any] = {} if features is None else {"features": features.weights}
    notes: tuple[str, ...] = () if features is None else (features.note,)
    if loss.lpips and lpips is not None:
        frozen["lpips"], notes = lpips, (*notes, lpips.description)
    return frozen, notes


def picture_terms(
    loss: PictureLossConfig, features: FeatureNetwork | None, frozen: Any, prediction: Any, target: Any
) -> dict[str, Any]:
    """Every loss of likeness that has a weight, weighted, by name."""
    terms = {}
    if features is not None and any(loss.perceptual):
        terms["perceptual"] = losses.perceptual(
            lambda x: features.apply(frozen["features"], x), prediction, target,
            weights=loss.perceptual, scales=loss.scales, normalise=loss.normalise_perceptual,
        )  # fmt: skip
    if loss.pyramid_l1:
        terms["pyramid_l1"] = loss.pyramid_l1 * losses.pyramid_l1(prediction, target, scales=loss.scales)
    if loss.lpips:
        terms["lpips"] = loss.lpips * frozen["lpips"](prediction, target).mean()
    if loss.structural:
        terms["structural"] = loss.structural * (1 - image.ssim_map(prediction, target).mean())
    return terms


def adversaries(
    loss: PictureLossConfig, module: Any, own: dict[str, Any], prediction: Any, target: Any, *shown: Any
) -> tuple[Any, dict[str, Any], dict[str, Any], Variables]:
    """Both sides of the game from one judgement of each picture.

    Args:
      loss: weights and form.
      module: the discriminator.
      own: its variables.
      prediction: generated pictures.
      target: true ones.
      *shown: what else the discriminator sees; no gradient flows into it.

    Returns:
      The generator's gradient with respect to its pictures, the terms, the discriminator's gradients, and its
      collections.
    """
    shown = jax.tree.map(jax.lax.stop_gradient, shown)

    def judge(params: Any, state: Any, picture: Any) -> Any:
        out, new = apply_module(module, {**state, "params": params}, True, picture, *shown)
        maps = [m for one, _ in out.values() for m in one]
        return (maps, [logits for _, logits in out.values()]), {**state, **new}

    state = {name: tree for name, tree in own.items() if name != "params"}
    fake, pull_fake, state = jax.vjp(lambda p, x: judge(p, state, x), own["params"], prediction, has_aux=True)
    real, pull_real, state = jax.vjp(lambda p: judge(p, state, target), own["params"], has_aux=True)

    def generator_loss(fake: Any) -> Any:
        matching = losses.feature_matching(real[0], fake[0], loss.feature_matching * len(fake[1]))
        return {
            "generator_gan": loss.generator_gan * losses.gan_generator_loss(fake[1], loss.gan),
            "feature_matching": matching,
        }

    def discriminator_loss(real: Any, fake: Any) -> Any:
        return loss.discriminator_gan * losses.gan_discriminator_loss(real[1], fake[1], loss.gan)

    terms, pull_terms = jax.vjp(generator_loss, fake)
    (blame,) = pull_terms(jax.tree.map(jnp.ones_like, terms))
    _, towards = pull_fake(blame)
    value, pull_game = jax.vjp(discriminator_loss, real, fake)
    blame_real, blame_fake = pull_game(jnp.ones_like(value))
    grads = jax.tree.map(jnp.add, pull_real(blame_real)[0], pull_fake(blame_fake)[0])
    return towards, {**terms, "discriminator": value}, {"discriminator": grads}, {"discriminator": state}


class PictureObjective(abc.ABC):
    """A generator from pictures to a picture, and a discriminator of single pictures; see
    `avfr_jax.training.objective.Objective`.

    A family says what its networks are (`init_networks`, `generator`, `discriminator`) and what of a batch they are
    given and are to paint (`example`).
    """

    config: Any
    networks: tuple[str, ...]
    averaged: tuple[str, ...] = ("generator",)
    notes: tuple[str, ...]

    def __init__(
        self,
        config: Any,
        loss: PictureLossConfig | None = None,
        features: FeatureNetwork | None = None,
        *,
        lpips: Lpips | None = None,
        dtype: Any = None,
        remat: bool = False,
    ) -> None:
        """Args:
        config: the networks, of the family's own kind.
        loss: weights of the losses.
        features: the perceptual network; None leaves that loss out.
        lpips: the network of `loss.lpips`.
        dtype: of the computation; parameters stay float32.
        remat: recompute the generator's activations in the backward pass instead of keeping them.

        Raises:
          ConfigError: see `frozen_networks`; a discriminator that a picture is too small for.
        """
        self.config, self.loss, self.dtype, self.remat = config, loss or PictureLossConfig(), dtype, remat
        self.features = features
        self.frozen, self.notes = frozen_networks(self.loss, features, lpips, config.discriminator)
        self.adversarial = self.loss.generator_gan > 0
        self.networks = ("generator", "discriminator") if self.adversarial else ("generator",)
        side = jax.tree.leaves(self.example_batch(1))[0].shape[1]
        if self.adversarial and judgement_size(config.discriminator, side) < 1:
            raise ConfigError(
                f"Pictures of {side} x {side} are too small for a discriminator of {config.discriminator.num_blocks} "
                "blocks; lower model.discriminator.num_blocks (and give losses.feature_matching as many weights)."
            )

    # ---------------------------------------------------------------------------------------- what a family says

    @abc.abstractmethod
    def init_networks(self, key: Array) -> Variables:
        """Random weights of all that the family has, the discriminator included."""

    @abc.abstractmethod
    def generator(self, axis_name: str | None = None) -> Any:
        """The generator."""

    @abc.abstractmethod
    def discriminator(self) -> Any:
        """The discriminator."""

    @abc.abstractmethod
    def example_batch(self, size: int) -> dict[str, Any]:
        """See `Objective.example_batch`; square pictures, all of one size."""

    @abc.abstractmethod
    def example(self, batch: dict[str, Any], draws: Any) -> tuple[tuple[Any, ...], Any]:
        """A batch -> what the generator is given, and the picture it is to paint."""

    @abc.abstractmethod
    def evaluate(self, variables: Variables, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """See `Objective.evaluate`."""

    @abc.abstractmethod
    def panels(self, variables: Variables, batch: dict[str, Any]) -> dict[str, Any]:
        """See `Objective.panels`."""

    def draw(self, key: Array, size: int) -> Any:
        """See `Objective.draw`."""
        return {}

    # ------------------------------------------------------------------------------------------------ the losses

    def init(self, key: Array) -> Variables:
        """See `Objective.init`."""
        variables = self.init_networks(key)
        return {name: variables[name] for name in self.networks}

    def gradients(
        self, variables: Variables, frozen: Any, batch: dict[str, Any], draws: Any, axis_name: str | None = None
    ) -> Gradients:
        """See `Objective.gradients`."""
        given, target = self.example(batch, draws)
        own = variables["generator"]
        state = {name: tree for name, tree in own.items() if name != "params"}

        def paint(params: Any) -> Any:
            return apply_module(self.generator(axis_name), {**state, "params": params}, True, *given)

        def generator_side(params: Any) -> Any:
            prediction, new = (jax.checkpoint(paint) if self.remat else paint)(params)
            terms = picture_terms(self.loss, self.features, frozen, prediction, target)
            return (sum(terms.values(), jnp.zeros(())), prediction), (new, terms)

        (value, prediction), pull, (new, terms) = jax.vjp(generator_side, own["params"], has_aux=True)
        grads: dict[str, Any] = {}
        collections: Variables = {}
        towards = jnp.zeros_like(prediction)
        if self.adversarial:
            judge, judged = self.discriminator(), variables["discriminator"]
            towards, more, grads, collections = adversaries(self.loss, judge, judged, prediction, target)
            terms |= more
        (grads["generator"],) = pull((jnp.ones_like(value), towards))
        collections["generator"] = new
        total = sum((value for name, value in terms.items() if name != "discriminator"), jnp.zeros(()))
        metrics = {f"loss/{name}": value for name, value in terms.items()}
        return Gradients(grads, collections, {**metrics, "loss": total, "l1": losses.l1(prediction, target)})


def compared(prediction: Any, plain: Any, target: Any, rival: str) -> dict[str, Any]:
    """L1, PSNR and SSIM of each predicted picture, and L1 and PSNR of what is got without a network, under names that
    end in `_rival`."""
    return {
        "l1": image.l1(prediction, target),
        f"l1_{rival}": image.l1(plain, target),
        "psnr": image.psnr(prediction, target),
        f"psnr_{rival}": image.psnr(plain, target),
        "ssim": image.ssim(prediction, target),
    }


def difference(prediction: Any, target: Any) -> Any:
    """Four times the absolute difference as a picture in [0, 1]."""
    return jnp.clip(4 * jnp.abs(prediction - target), 0, 1)
