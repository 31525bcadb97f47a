"""How each transform of tfpipe.augment is made: the arguments that it cannot do without."""

from tfpipe import augment
from tfpipe.policy import Policy, Schedule, Segment, Step

ARGUMENTS = {
    "center_crop": ((4, 4),),
    "choose_n": (["invert", "equalize"], 1),
    "compose": ([augment.flip_left_right(), augment.mixup(0.3)],),
    "deep_augment": ([[["rotate", 0.3], ["invert", 0.0]]],),
    "drop_boxes": ([augment.flip_left_right()],),
    "keypoint_pairs": ([augment.flip_left_right()], [(0, 1)]),
    "normalize": ([0.1, 0.2, 0.3], 1.0),
    "one_of": (["invert", augment.sometimes("equalize", 0.3)], [0.2, 0.8]),
    "op": ("emboss", (0, 1), 3),
    "pba": (Schedule("s", (Segment(2, Policy("p", ((Step("invert"),),), 11, "pba", (0, 1))),)),),
    "policy": (Policy("p", ((Step("rotate", 0.5, 0.5),),)),),
    "rand_augment": (2, 9),
    "random_crop": ((4, 4),),
    "select": (["invert"], "which"),
    "repeated": (3,),
    "sometimes": ("invert", 0.5),
    "views": ([[], [augment.flip_left_right(), augment.random_crop((4, 4))]],),
}
