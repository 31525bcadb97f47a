"""torchvision: its own JPEG decoder and v2.resize on files, or ImageFolder with Pillow; a process for each core.

python read_torchvision.py TASK FOLDER PASSES
"""

import reading
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

torch.set_num_threads(1)
SIZE = [reading.SIDE, reading.SIDE]


class Photos(Dataset):
    """Files decoded to uint8 [224, 224, 3]."""

    def __init__(self, folder, antialias):
        self.photos, self.antialias = reading.photos(folder), antialias

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        path, label = self.photos[index]
        image = decode_jpeg(read_file(path), mode=ImageReadMode.RGB)
        image = v2.functional.resize(image, SIZE, antialias=self.antialias)
        return image.permute(1, 2, 0), torch.nn.functional.one_hot(torch.tensor(label), reading.CLASSES).float()


def loader(dataset):
    return DataLoader(
        dataset,
        batch_size=reading.BATCH,
        shuffle=True,
        num_workers=reading.WORKERS,
        drop_last=True,
        persistent_workers=True,
    )


def pillow(folder):
    transform = v2.Compose([v2.Resize(SIZE), v2.PILToTensor(), lambda image: image.permute(1, 2, 0)])
    target = lambda label: torch.nn.functional.one_hot(torch.tensor(label), reading.CLASSES).float()  # noqa: E731
    return loader(ImageFolder(f"{folder}/photos", transform=transform, target_transform=target))


if __name__ == "__main__":
    reading.main(
        {
            "jpeg": lambda folder: loader(Photos(folder, False)),
            "antialias": lambda folder: loader(Photos(folder, True)),
            "antialias_pillow": pillow,
        }
    )
