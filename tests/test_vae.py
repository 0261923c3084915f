import pytest
import torch
from diffusers import AutoencoderKL, VQModel

from pointland.lid import DecoderRank, Posterior, decoder_rank, posterior
from pointland.models.vae import Encoded, Vae, autoencoder_kl


@pytest.fixture(scope="module")
def small() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=2,
        sample_size=8,
    ).eval()


def test_the_functions_are_the_autoencoders(small: AutoencoderKL) -> None:
    x = torch.rand(3, 1, 8, 8) * 2 - 1
    vae = autoencoder_kl(small)
    with torch.no_grad():
        mean, log_variance = vae.encode(x)
        wanted = small.encode(x).latent_dist
        torch.testing.assert_close(mean, wanted.mean)
        torch.testing.assert_close(log_variance.exp(), wanted.var)
        torch.testing.assert_close(vae.decode(mean), small.decode(mean).sample)
    assert mean.shape == (3, 2, 4, 4)


def test_the_estimators_take_them(small: AutoencoderKL) -> None:
    x, vae = torch.rand(2, 1, 8, 8) * 2 - 1, autoencoder_kl(small)
    found = Posterior(0.5)(vae.encode, x)
    assert found.variances.shape == (2, 32)
    ranked = DecoderRank(1e-3, cut=0.999)(vae.encode, vae.decode, x)
    assert (ranked.value <= posterior(vae.encode, x, cut=0.999).value).all()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in small.parameters())
    half = autoencoder_kl(AutoencoderKL(**small.config).to(torch.bfloat16).eval())
    assert half.encode(x).mean.dtype == torch.float32


def test_any_pair_of_functions_is_a_vae() -> None:
    """A linear VAE whose posterior is known: two directions wider than the decoder's noise, one not."""
    lengths, gamma = torch.tensor([3.0, 1.0, 0.0]), 0.01
    variances = gamma / (gamma + lengths**2)
    vae = Vae(
        lambda x: Encoded(x * lengths * variances / gamma, variances.log().expand(len(x), 3)), lambda z: z * lengths
    )
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert Posterior()(vae.encode, x).value.tolist() == [2]
    assert decoder_rank(vae.encode, vae.decode, x, torch.tensor([0.1])).value.tolist() == [2]


def test_others_are_refused(small: AutoencoderKL) -> None:
    with pytest.raises(TypeError, match="expected an AutoencoderKL, got VQModel"):
        autoencoder_kl(VQModel(block_out_channels=(4,), norm_num_groups=2))
    with pytest.raises(ValueError, match="training mode"):
        autoencoder_kl(AutoencoderKL(**small.config).train())
