"""A project file: a torchvision ResNet on pictures in one folder a class, with the checkpoints of its training.

Beside this file: pictures/train/<class>/*.png    pictures/test/<class>/*.png    runs/*.pt
"""

from torchvision import models, transforms

from attribution import Project, checkpoints_in, images_in

as_tensor = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
data = images_in("pictures/train", "pictures/test", transform=as_tensor)


def project() -> Project:
    return Project(
        name="pictures",
        model=lambda: models.resnet18(num_classes=len(data.classes)),
        checkpoints=checkpoints_in("runs/*.pt"),  # learning rates and steps are read from them
        **data,
    )
