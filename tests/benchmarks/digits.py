"""Evaluation of generated digits by a classifier of real ones."""

from __future__ import annotations

import statistics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vanillagan.data import ByteImages
from vanillagan.metrics import extract_features, frechet_distance, precision_recall

FOUND = 0.03
"""Smallest share of the samples for which a digit counts as found."""


class Judge:
    """Compare samples with the test set, in the 128 features of a small classifier.

    Distances depend on the classifier: compare them with its `real`, the figures of training
    images, never with distances of another network.
    """

    def __init__(self, data: ByteImages, test: ByteImages, *, seed: int = 0) -> None:
        self.classifier = train_classifier(data, seed=seed)
        images, self._labels = test[:]
        self.accuracy = (self.classes(images) == self._labels).double().mean().item()
        self._features = self.features(images)
        some = data[torch.randperm(len(data))[: len(images)]]
        self.real = self(*some)

    def __call__(self, samples: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        """Return Fréchet distance, precision and recall of 3,000 samples, and the digits found.

        `certain` is the share of samples whose class has a probability above 0.95. With labels,
        `as_labeled` is the share of samples that are classified as theirs, and `frechet_by_class`
        the mean of ten Fréchet distances, each of samples and test images with the same label.
        """
        features = self.features(samples)
        precision, recall = precision_recall(self._features[:3000], features[:3000])
        confidence, classes = self.probabilities(samples).max(1)
        shares = classes.bincount(minlength=10) / len(samples)
        by_label = {} if labels is None else self._by_label(features, classes, labels)
        return by_label | {
            "frechet": frechet_distance(self._features, features),
            "precision": precision,
            "recall": recall,
            "found": int((shares >= FOUND).sum()),
            "least_share": float(shares.min()),
            "certain": float((confidence > 0.95).float().mean()),
        }

    def _by_label(self, features: Tensor, classes: Tensor, labels: Tensor) -> dict[str, float]:
        distances = [
            frechet_distance(self._features[self._labels == digit], features[labels == digit])
            for digit in range(10)
        ]
        return {
            "as_labeled": float((classes == labels).double().mean()),
            "frechet_by_class": statistics.mean(distances),
        }

    def features(self, images: Tensor) -> Tensor:
        """Return the features before the last layer: (N, 1, 28, 28) -> (N, 128)."""
        return extract_features(self.classifier[:-2], images)

    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probabilities of the digits: (N, 1, 28, 28) -> (N, 10)."""
        return extract_features(self.classifier, images).softmax(1)

    def classes(self, images: Tensor) -> Tensor:
        """Return the digits: (N, 1, 28, 28) -> (N,)."""
        return self.probabilities(images).argmax(1)


def train_classifier(data: ByteImages, *, epochs: int = 5, seed: int = 0) -> nn.Sequential:
    """Train a small convolutional classifier of digits; return it in eval mode."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
    )  # fmt: skip
    steps = epochs * (len(data) // 256)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for indices in torch.randperm(len(data)).split(256)[: steps // epochs]:
            images, labels = data[indices]
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
            schedule.step()
    return network.eval()
