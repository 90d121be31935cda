"""The one place that knows Panda3D: software renderer, cameras in one buffer, meshes as nodes."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from alpamayo_ros.errors import UserError
from alpamayo_ros.world.mesh import Mesh
from alpamayo_ros.world.rig import Rig

NEAR_M, FAR_M = 0.4, 2000.0
_PRC = """
load-display p3tinydisplay
window-type offscreen
audio-library-name null
model-cache-dir
notify-level-display error
"""
_VERTEX = np.dtype([("xyz", np.float32, 3), ("rgba", np.uint8, 4), ("uv", np.float32, 2)])
_names = itertools.count()
_pipe: Any = None


def _core() -> Any:
    """panda3d.core, told to render in software before anything asks it to draw."""
    try:
        return importlib.import_module("panda3d.core")
    except ImportError as error:
        raise UserError(
            f"the generated world needs Panda3D, which cannot be imported ({error}): "
            "pip install panda3d"
        ) from error


def _graphics_pipe() -> Any:
    """The software renderer's pipe without a display; one for the whole process."""
    global _pipe
    if _pipe is None:
        p3d = _core()
        p3d.loadPrcFileData("alpamayo_ros", _PRC)
        selection = p3d.GraphicsPipeSelection.getGlobalPtr()
        # By name: the default is an X11 pipe that complains where there is no display.
        _pipe = selection.makePipe("TinyOffscreenGraphicsPipe", "p3tinydisplay")
        if _pipe is None:
            raise UserError(
                "Panda3D has no software renderer (p3tinydisplay) here: "
                "pip install --force-reinstall panda3d"
            )
    return _pipe


def node(mesh: Mesh, name: str = "mesh") -> Any:
    """A NodePath with a copy of the mesh."""
    p3d = _core()
    vertices = np.zeros(len(mesh.vertices_m), _VERTEX)
    vertices["xyz"], vertices["uv"] = mesh.vertices_m, mesh.texture
    vertices["rgba"][:, :3] = np.clip(255.0 * mesh.colours + 0.5, 0, 255)
    vertices["rgba"][:, 3] = 255
    # Quads come as two triangles: corners of one look are stored once, a third fewer to transform.
    _, kept, corners = np.unique(
        vertices.view(f"V{_VERTEX.itemsize}"), return_index=True, return_inverse=True
    )
    vertices = vertices[kept]
    layout = p3d.GeomVertexFormat.getV3c4t2()
    data = p3d.GeomVertexData(name, layout, p3d.Geom.UHStatic)
    data.uncleanSetNumRows(len(vertices))
    data.modifyArrayHandle(0).copyDataFrom(vertices.tobytes())
    primitive = p3d.GeomTriangles(p3d.Geom.UHStatic)
    primitive.setIndexType(p3d.Geom.NTUint32)
    indices = primitive.modifyVertices()
    indices.uncleanSetNumRows(len(corners))
    indices.modifyHandle().copyDataFrom(corners.astype(np.uint32).tobytes())
    geom = p3d.Geom(data)
    geom.addPrimitive(primitive)
    geom_node = p3d.GeomNode(name)
    if len(vertices):
        geom_node.addGeom(geom)
    return p3d.NodePath(geom_node)


def painted(path: Any, order: int, alpha: float = 1.0) -> Any:
    """Draw a node in painter's order before everything solid, without the depth buffer."""
    p3d = _core()
    path.setBin("background", order)
    path.setDepthTest(False)
    path.setDepthWrite(False)
    if alpha < 1.0:
        path.setTransparency(p3d.TransparencyAttrib.MAlpha)
        path.setAlphaScale(alpha)
        path.setBin("background", order)  # transparency asks for a bin of its own
    return path


def solid(path: Any) -> Any:
    """Draw a node with the depth buffer, in the scene graph's order.

    Panda's own order goes by the addresses of states, and where surfaces touch, the picture would
    depend on it.
    """
    path.setBin("unsorted", 0)
    return path


def texture(pixels: NDArray[np.uint8]) -> Any:
    """A repeating, mip-mapped texture of (H, W, 3) RGB."""
    p3d = _core()
    result = p3d.Texture("texture")
    height, width = pixels.shape[:2]
    result.setup2dTexture(width, height, p3d.Texture.TUnsignedByte, p3d.Texture.FRgb)
    result.setRamImage(np.ascontiguousarray(pixels[..., ::-1]).tobytes())  # stored as BGR
    result.setWrapU(p3d.SamplerState.WMRepeat)
    result.setWrapV(p3d.SamplerState.WMRepeat)
    result.setMinfilter(p3d.SamplerState.FTLinearMipmapLinear)
    result.setMagfilter(p3d.SamplerState.FTLinear)
    return result


class OffscreenCameras:
    """A rig's cameras over one scene graph; `supersample`² samples a pixel."""

    def __init__(self, rig: Rig, supersample: int = 2) -> None:
        p3d = _core()
        self._rig, self._supersample = rig, supersample
        self._size = (rig[0].width_px, rig[0].height_px)
        self.world = p3d.NodePath("world")
        self._ego = self.world.attachNewNode("ego")
        self._engine = p3d.GraphicsEngine.getGlobalPtr()
        self._buffer: Any | None = self._open_buffer(p3d)
        self._pixels = p3d.Texture("pixels")
        self._buffer.addRenderTexture(self._pixels, p3d.GraphicsOutput.RTMCopyRam)
        for index, camera in enumerate(rig):
            region = self._buffer.makeDisplayRegion(0, 1, index / len(rig), (index + 1) / len(rig))
            region.setClearDepthActive(True)
            region.setCamera(self._camera_node(p3d, camera))

    def _open_buffer(self, p3d: Any) -> Any:
        framebuffer = p3d.FrameBufferProperties()
        framebuffer.setRgbColor(True)
        framebuffer.setDepthBits(24)
        width, height = (self._supersample * length for length in self._size)
        buffer = self._engine.makeOutput(
            _graphics_pipe(), f"cameras{next(_names)}", 0, framebuffer,
            p3d.WindowProperties.size(width, height * len(self._rig)),
            p3d.GraphicsPipe.BFRefuseWindow,
        )  # fmt: skip
        if buffer is None:
            raise UserError(f"Panda3D could not open a {width}x{height} offscreen buffer a camera")
        return buffer

    def _camera_node(self, p3d: Any, camera: Any) -> Any:
        lens = p3d.PerspectiveLens()
        lens.setAspectRatio(camera.width_px / camera.height_px)
        lens.setFov(camera.horizontal_fov_deg)
        lens.setNearFar(NEAR_M, FAR_M)
        # Panda looks along y with x right and z up; rows of its matrices are the axes.
        right, down, ahead = camera.rig_from_optical.T
        rows = (right, ahead, -down, np.array(camera.position_in_rig_m))
        path = self._ego.attachNewNode(p3d.Camera(camera.name, lens))
        path.setMat(p3d.LMatrix4f(*np.column_stack((rows, (0, 0, 0, 1))).ravel().tolist()))
        return path

    def render(
        self, x_m: float, y_m: float, yaw_rad: float, gain: NDArray[np.float64]
    ) -> dict[str, NDArray[np.uint8]]:
        """{camera: (H, W, 3) RGB} seen from a rig pose; `gain` (3,) scales red, green, blue."""
        self._ego.setPosHpr(x_m, y_m, 0.0, float(np.rad2deg(yaw_rad)), 0.0, 0.0)
        self._engine.renderFrame()
        width, height = (self._supersample * length for length in self._size)
        raw = np.frombuffer(self._pixels.getRamImage(), np.uint8)
        raw = raw.reshape(len(self._rig), height, width, 4)  # BGRA, rows from the bottom up
        table = np.clip(np.arange(256)[:, None] * gain + 0.5, 0, 255).astype(np.uint8)[None]
        images: dict[str, Any] = {}
        for camera, big in zip(self._rig, raw, strict=True):
            small = cv2.resize(big, self._size, interpolation=cv2.INTER_AREA)
            rgb = cv2.flip(cv2.cvtColor(small, cv2.COLOR_BGRA2RGB), 0)
            images[camera.name] = cv2.LUT(rgb, table)
        return images

    def close(self) -> None:
        """Give the buffer back; nothing can be rendered after."""
        if self._buffer is not None:
            self._engine.removeWindow(self._buffer)
            self._buffer = None
            self.world.removeNode()
