"""The small network and the images of the tests of attacks."""

from attacks.conftest import images as images
from attacks.conftest import net as net
