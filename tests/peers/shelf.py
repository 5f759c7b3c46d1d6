"""The images of the scenarios, by name, in a registry: made once, pushed by skopeo."""

from __future__ import annotations

import json
import random
from typing import NamedTuple

from tests.peers import images
from tests.peers.registry import Registry


class Product(NamedTuple):
    """An image on the shelf: its reference in the registry, the digest of its top document, and its parts."""

    reference: str
    digest: str
    image: images.Image


class Shelf:
    """Names and what they show:

    busybox     one gzip layer with a user `tester`
    zstd        the same files in a zstd layer
    index       an index of this architecture, the other one of amd64/arm64, and s390x
    foreign     an index of s390x alone
    configured  entrypoint, command, environment, work directory, user, volume, ports, stop signal, labels
    layered     forty layers with whiteouts and opaque directories
    big         a layer of 3 MB that does not compress
    tampered    an image whose manifest no scenario may get unharmed, since dockerd keeps manifests it has seen
    linked      a symbolic link /escape that tries to leave the root
    """

    def __init__(self, registry: Registry, layouts: str) -> None:
        self._registry, self._layouts = registry, layouts
        self._products: dict[str, Product] = {}

    def fill(self) -> None:
        tar = images.tar(images.busybox_entries())
        base = images.layer(tar)
        plain = images.image([base], {"Cmd": ["sh"]})
        other = images.image([base], {"Cmd": ["sh"]}, images.OTHER_ARCHITECTURE)
        foreign = images.image([base], {"Cmd": ["sh"]}, "s390x")
        self._put("busybox", [plain])
        self._put("zstd", [images.image([images.layer(tar, "zstd")], {"Cmd": ["sh"]})])
        self._put("index", [plain, other, foreign], as_index=True)
        self._put("foreign", [foreign], as_index=True)
        served = [images.directory("srv"), images.directory("var"), images.directory("var/kept"),
                  images.Entry("var/kept/seed", content=b"seed")]  # fmt: skip
        self._put("configured", [images.image([base, images.layer(images.tar(served))], images.CONFIGURED)])
        layers = [images.layer(images.tar(entries)) for entries in images.layered_entries()]
        noise = images.Entry("big", content=random.Random(1).randbytes(3_000_000))
        self._put("big", [images.image([base, images.layer(images.tar([noise]))], {"Cmd": ["sh"]})])
        self._put("tampered", [images.image([base], {"Cmd": ["tampered"]})])
        escape = images.layer(images.tar([images.symlink("escape", "/../../../../../../tmp")]))
        self._put("linked", [images.image([base, escape], {"Cmd": ["sh"]})])
        self._put("layered", [images.image([base, *layers], {"Cmd": ["sh"]})])

    def _put(self, name: str, parts: list[images.Image], *, as_index: bool = False) -> None:
        layout = f"{self._layouts}/{name}"
        digest = images.write_layout(layout, parts, as_index=as_index)
        reference = self._registry.push(layout, name, every_platform=as_index)
        self._products[name] = Product(reference, digest, parts[0])

    def product(self, name: str) -> Product:
        return self._products[name]

    def reference(self, name: str) -> str:
        """`host:port/name`, without a tag."""
        return self._products[name].reference

    def config_size(self, name: str) -> int:
        """Bytes of the image's configuration document."""
        size = json.loads(self._products[name].image.manifest.content)["config"]["size"]
        assert isinstance(size, int)
        return size
