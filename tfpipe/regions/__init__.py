"""Regions of images: boxes, suppression, RoIAlign, and warps with a matrix per image; on any device, under XLA.

from tfpipe import regions

indices, count = regions.nms(boxes, scores, iou_threshold=0.5, max_output=100)
pooled = regions.roi_align(features, boxes, box_indices, output_size=7, spatial_scale=1 / 16)
faces = regions.warp_affine(images, regions.affine_from_points(src=landmarks, dst=template), (112, 112))
"""

from tfpipe.regions.boxes import box_iou, convert_boxes, pad_boxes
from tfpipe.regions.nms import batched_nms, nms, soft_nms
from tfpipe.regions.roi_align import crop_and_resize, roi_align
from tfpipe.regions.warp import affine_from_points, perspective_from_points, warp_affine, warp_perspective

__all__ = [
    "affine_from_points",
    "batched_nms",
    "box_iou",
    "convert_boxes",
    "crop_and_resize",
    "nms",
    "pad_boxes",
    "perspective_from_points",
    "roi_align",
    "soft_nms",
    "warp_affine",
    "warp_perspective",
]
