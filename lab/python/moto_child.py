"""moto's server, which ends when the lab does: the lab holds its standard input open."""

import os
import sys
import threading

from moto.ec2.models.amis import Ami
from moto.server import main


def exit_with_parent():
    while os.read(0, 4096):
        pass
    os._exit(0)


def filter_images_by_snapshot():
    """moto knows no filter of images by what they are made of."""
    value_of = Ami.get_filter_value

    def known(image, name, method_name=None):
        return image.ebs_snapshot.id if name == "block-device-mapping.snapshot-id" else value_of(image, name, method_name)

    Ami.get_filter_value = known


filter_images_by_snapshot()
threading.Thread(target=exit_with_parent, daemon=True).start()
main(sys.argv[1:])
