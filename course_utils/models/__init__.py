"""The models of the course, one short file a family."""

from course_utils.models.autoencoder import Autoencoder, AutoencoderOutput
from course_utils.models.avb import AVB
from course_utils.models.cvae import CVAE, one_hot_labels
from course_utils.models.diffusion import DDPM, FlowMatching
from course_utils.models.gan import GAN, Discriminator
from course_utils.models.hierarchical import HierarchicalVAE, ResidualVAE, precision_weighted
from course_utils.models.information import TCVAE, InfoVAE
from course_utils.models.iwae import IWAE
from course_utils.models.latent_diffusion import LatentDiffusion
from course_utils.models.layers import GaussianHeads, reparameterize
from course_utils.models.made import MADE, MADEVAE
from course_utils.models.objectives import AdversarialLoss, FeatureLoss
from course_utils.models.pixel_cnn import MaskedConv2d, PixelCNN, PixelVAE
from course_utils.models.registry import register
from course_utils.models.vae import VAE, VAEOutput
from course_utils.models.vq_vae import VQVAE, CodePrior

__all__ = [
    "AVB", "CVAE", "DDPM", "GAN", "IWAE", "MADE", "MADEVAE", "TCVAE", "VAE", "VQVAE", "AdversarialLoss", "Autoencoder",
    "AutoencoderOutput", "CodePrior", "Discriminator", "FeatureLoss", "FlowMatching", "GaussianHeads",
    "HierarchicalVAE", "InfoVAE", "LatentDiffusion", "MaskedConv2d", "PixelCNN", "PixelVAE", "ResidualVAE", "VAEOutput",
    "one_hot_labels", "precision_weighted", "register", "reparameterize",
]  # fmt: skip
