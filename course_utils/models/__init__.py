"""The models of the course, one short file a family."""

from course_utils.models.autoencoder import Autoencoder, AutoencoderOutput
from course_utils.models.avb import AVB
from course_utils.models.cvae import CVAE, one_hot_labels
from course_utils.models.information import TCVAE, InfoVAE
from course_utils.models.iwae import IWAE
from course_utils.models.layers import GaussianHeads, reparameterize
from course_utils.models.made import MADE, MADEVAE
from course_utils.models.pixel_cnn import MaskedConv2d, PixelCNN, PixelVAE
from course_utils.models.registry import register
from course_utils.models.vae import VAE, VAEOutput

__all__ = [
    "AVB", "CVAE", "IWAE", "MADE", "MADEVAE", "TCVAE", "VAE", "Autoencoder", "AutoencoderOutput", "GaussianHeads",
    "InfoVAE", "MaskedConv2d", "PixelCNN", "PixelVAE", "VAEOutput", "one_hot_labels", "register", "reparameterize",
]  # fmt: skip
