"""Keras on PyTorch: `fit` trains on mixed batches. pip install vicinal keras scikit-learn"""

import os

os.environ["KERAS_BACKEND"] = "torch"  # before Keras is imported

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import vicinal


class MixupModel(keras.Model):
    """A functional model that is trained on mixed batches; validation and predictions are as ever."""

    mixup = vicinal.Mixup(alpha=0.4, seed=0)

    def train_step(self, data):
        x, y = data
        step = int(self.optimizer.iterations)  # saved with the model: it resumes with the draws it would have had
        return super().train_step(self.mixup(x, y, step=step))


keras.utils.set_random_seed(0)
x, y = load_digits(return_X_y=True)
x, y = (x / 16).astype("float32"), keras.utils.to_categorical(y)  # labels of 0 and 1, which can be mixed
x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)

inputs = keras.Input((64,))
hidden = keras.layers.Dense(128, "relu")(inputs)
outputs = keras.layers.Dense(10)(keras.layers.Dense(128, "relu")(hidden))
model = MixupModel(inputs, outputs)
model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(x_train, y_train, batch_size=64, epochs=12, validation_split=0.1, verbose=0)
print(f"test accuracy {model.evaluate(x_test, y_test, verbose=0)[1]:.3f}")
