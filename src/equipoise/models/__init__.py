"""Reference networks, by a short text such as ``mlp:784-300-10``."""

from equipoise.models.balanced import autoencoder as autoencoder
from equipoise.models.balanced import cnn as cnn
from equipoise.models.balanced import local as local
from equipoise.models.catalogue import describe as describe
from equipoise.models.catalogue import make as make
from equipoise.models.catalogue import names as names
from equipoise.models.catalogue import register as register
from equipoise.models.catalogue import registry as registry
from equipoise.models.inhibition import dale as dale
from equipoise.models.inhibition import dann as dann
from equipoise.models.inhibition import inorm as inorm
from equipoise.models.inhibition import layernorm as layernorm
from equipoise.models.invertible import gait_imagenet as gait_imagenet
from equipoise.models.invertible import invertible as invertible
from equipoise.models.networks import ResidualNet as ResidualNet
from equipoise.models.networks import conv as conv
from equipoise.models.networks import mlp as mlp
from equipoise.models.spiking import spiking_mlp as spiking_mlp
from equipoise.models.spiking import spiking_vgg as spiking_vgg
from equipoise.models.spiking_resnet import spiking_resnet as spiking_resnet
from equipoise.models.vgg import dann_vgg as dann_vgg
