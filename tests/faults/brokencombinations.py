"""Broken experiment files whose values are right by themselves and wrong together, or for the data."""

from __future__ import annotations

from broken import DATA, MINIMAL, MODEL, WITH, Broken

BROKEN_COMBINATIONS: dict[str, list[Broken]] = {
    "layers from elsewhere, and stages": [
        Broken(
            "freeze-and-unfreeze",
            MINIMAL + "training: {stages: [{epochs: 2, freeze: 1, unfreeze: all}]}\n",
            "3:21: freeze and unfreeze exclude each other",
        ),
        Broken(
            "layers-of-a-fraction",
            MINIMAL + "training: {stages: [{epochs: 2, freeze: 1.5}]}\n",
            "3:41: 'freeze' must be a number of layers, or names of layers or patterns, not 1.5",
        ),
        Broken(
            "more-epochs-than-stages",
            MINIMAL + "training: {epochs: 9, stages: [{epochs: 2}, {epochs: 3}]}\n",
            "3:11: there are 9 epochs, but the stages come to 5",
        ),
        Broken(
            "nothing-left-to-train",
            MINIMAL + "training: {stages: [{epochs: 2, freeze: all}]}\n",
            "3:21: all layers are frozen, so there is nothing to train",
        ),
        Broken(
            "no-such-layer",
            MINIMAL + "training: {stages: [{epochs: 2, freeze: conv1}]}\n",
            "3:41: no layer matches 'conv1'; there are dense1, output",
        ),
        Broken(
            "no-such-run",
            DATA + WITH + "reuse: {from: nothing}}\n",
            "2:64: no run 'nothing': there are no runs in runs",
        ),
        Broken(
            "frozen-and-pretrained",
            DATA + WITH + "reuse: {from: nothing, freeze: all}}\npretraining: autoencoder\n",
            "2:81: these layers are to stay as they are, and pretraining changes all hidden layers",
        ),
        Broken(
            "no-such-file",
            DATA + WITH + "reuse: {from: ./nothing.pt}, activation: relu}\n",
            "2:64: there is no run and no file nothing.pt",
        ),
        Broken(
            "nothing-pretrained",
            "data: {dataset: digits, standardize: pretrained}\n" + MODEL,
            "1:38: there are no pretrained layers to standardize for",
        ),
        Broken(
            "no-such-network",
            DATA + "model: {architecture: {name: torchvision, model: resnet19}}\n",
            "2:50: torchvision has no network 'resnet19' for classification",
        ),
        Broken(
            "a-small-stem-for-vgg",
            DATA + "model: {architecture: {name: torchvision, model: vgg11, stem: small}}\n",
            "2:63: there is no small stem for vgg11, only for those of resnet.py and densenet.py in torchvision",
        ),
        Broken(
            "parts-for-a-network-with-its-own",
            DATA + "model: {architecture: {name: torchvision, model: resnet18}, activation: relu}\n",
            "2:73: torchvision has its own activations, so a file cannot choose one",
        ),
        Broken(
            "resizing-no-pictures",
            "data: {dataset: diabetes, resize: 8}\n" + MODEL,
            "1:35: there are no pictures to resize: dataset 'diabetes' has features",
        ),
    ],
    "what excludes or needs each other": [
        Broken(
            "two-clips",
            MINIMAL + "training: {clip: {norm: 1, value: 2}}\n",
            "3:18: clip needs exactly one of norm, value and parameter_norm",
        ),
        Broken(
            "no-clip",
            MINIMAL + "training: {epochs: 3, clip: {}}\n",
            "3:29: clip needs exactly one of norm, value and parameter_norm",
        ),
        Broken(
            "size-and-fraction",
            "data: {dataset: digits, validation: {size: 9, fraction: 0.1}}\n" + MODEL,
            "1:37: size and fraction exclude each other",
        ),
        Broken(
            "folds-without-fold",
            "data: {dataset: digits, validation: {folds: 5}}\n" + MODEL,
            "1:37: folds and fold belong together",
        ),
        Broken(
            "fold-out-of-range",
            "data: {dataset: digits, validation: {folds: 5, fold: 5}}\n" + MODEL,
            "1:37: there is no fold 5 among 5",
        ),
        Broken(
            "monitor-without-validation",
            MINIMAL + "training: {monitor: valid/loss}\n",
            "3:21: valid/loss is monitored, but data.validation is none",
            settings=["data.validation=none"],
        ),
        Broken(
            "restoring-without-validation",
            MINIMAL + "callbacks: {name: early_stopping, restore_best: true}\n",
            "3:12: restore_best needs validation, but data.validation is none",
            settings=["data.validation=none"],
        ),
        Broken(
            "stopping-before-averaging",
            MINIMAL + "training: {epochs: 40, average: swa}\ncallbacks: {name: early_stopping, patience: 10}\n",
            "4:12: early_stopping may end training with epoch 11, but training.average begins after epoch 30",
        ),
        Broken(
            "batch-norm-of-one-sample",
            DATA + "model: {normalization: batch, architecture: {name: mlp, hidden: [10]}}\n",
            "--set:1:17: batch normalization takes statistics over a batch, so one sample is not enough",
            settings=["data.batch_size=1"],
        ),
        Broken(
            "metric-for-another-loss",
            MINIMAL + "loss: mse\nmetrics: accuracy\n",
            "4:10: metric 'accuracy' does not fit loss 'mse'",
        ),
        Broken(
            "nesterov-without-momentum",
            MINIMAL + "optimizer: {name: sgd, nesterov: true}\n",
            "3:34: nesterov needs momentum and no dampening",
        ),
        Broken(
            "nesterov-with-dampening",
            MINIMAL + "optimizer: {name: sgd, momentum: 0.9, nesterov: true, dampening: 0.1}\n",
            "3:49: nesterov needs momentum and no dampening",
        ),
        Broken(
            "cycled-momentum-without-any",
            MINIMAL + "optimizer: adagrad\nschedule: one_cycle\n",
            "4:11: one_cycle cycles the momentum, but optimizer 'adagrad' has none",
        ),
        Broken(
            "range-upside-down",
            "data: {dataset: digits, augment: {name: random_erasing, ratio: [3, 0.3]}}\n" + MODEL,
            "1:64: 'ratio' must be two bounds, the smaller one first",
        ),
        Broken(
            "boundaries-that-fall",
            MINIMAL + "schedule: {name: piecewise, boundaries: [60, 30], values: [1, 2, 3]}\n",
            "3:41: 'boundaries' must ascend, such as [30, 60]",
        ),
        Broken(
            "values-for-other-boundaries",
            MINIMAL + "schedule: {name: piecewise, boundaries: [30], values: [1]}\n",
            "3:55: 'values' must be 2 factors for the pieces between 1 boundaries, not 1",
        ),
        Broken(
            "warmup-in-two-units",
            MINIMAL + "schedule: {name: cosine, warmup: {steps: 3, epochs: 1}}\n",
            "3:34: warmup needs exactly one of steps and epochs",
        ),
        Broken(
            "even-kernel",
            DATA + "model: {architecture: {name: cnn, widths: [4], kernel: 2}}\n",
            "2:56: 'kernel' must be odd, so that a convolution keeps the size of its pictures, not 2",
        ),
        Broken(
            "resnet-depth",
            DATA + "model: {architecture: {name: resnet, depth: 21}}\n",
            "2:45: 'depth' must be 6 n + 2 for some n, not 21",
        ),
        Broken(
            "padding-beyond-the-vocabulary",
            DATA + "model: {architecture: {name: lstm, units: 4, embedding: {vocabulary: 5, padding: 7}}}\n",
            "2:57: padding must be one of the 5 tokens",
        ),
        Broken(
            "slopes-upside-down",
            DATA + WITH + "activation: {name: rrelu, lower: 0.5, upper: 0.1}}\n",
            "2:95: rrelu draws from lower to upper, but lower is 0.5 and upper 0.1",
        ),
        Broken(
            "slopes-above-the-default",
            DATA + WITH + "activation: {name: rrelu, lower: 0.5}}\n",
            "2:62: rrelu draws from lower to upper, but lower is 0.5 and upper 0.333333",
        ),
        Broken(
            "weights-upside-down",
            DATA + WITH + "initializer: {name: uniform, low: 1, high: 0}}\n",
            "2:93: uniform draws from low to high, but low is 1 and high 0",
        ),
        Broken(
            "output-weights-upside-down",
            DATA + WITH + "output_initializer: {name: uniform, low: 1, high: 0}}\n",
            "2:100: uniform draws from low to high, but low is 1 and high 0",
        ),
    ],
    "what extends what": [
        Broken("extends-a-number", "extends: 3\n" + MINIMAL, "1:10: 'extends' must be the path of a file"),
        Broken("extends-nothing", MINIMAL + "extends: ''\n", "3:10: 'extends' must be the path of a file"),
        Broken("extends-a-missing-file", "extends: absent.yaml\n" + MINIMAL, "1:10: there is no file absent.yaml"),
        Broken("extends-a-name-too-long", "extends: " + "x" * 5000 + "\n" + MINIMAL, "1:10: cannot read"),
        Broken("extends-a-folder", "extends: .\n" + MINIMAL, "1:10: "),
        Broken("extends-itself", "extends: f.yaml\n" + MINIMAL, "1:10: these files extend each other in a circle"),
        Broken("extends-a-pipe", "extends: pipe\n" + MINIMAL, "1:10: pipe is a pipe or a device"),
        Broken(
            "extends-a-list",
            "extends: list.yaml\n" + MINIMAL,
            "list.yaml:1:1: an experiment is a mapping of sections, not a list",
        ),
        Broken(
            "extends-broken-yaml", "extends: broken.yaml\n" + MINIMAL, "broken.yaml:1:4: this bracket is never closed"
        ),
        Broken(
            "extends-what-extends-nothing",
            "extends: lost.yaml\n" + MINIMAL,
            "lost.yaml:1:10: there is no file nowhere.yaml",
        ),
    ],
    "settings of the command line": [
        Broken("set-without-equals", MINIMAL, "--set:1:1: cannot set 'optimizer.lr'", settings=["optimizer.lr"]),
        Broken("set-without-key", MINIMAL, "--set:1:1: cannot set '=3'", settings=["=3"]),
        Broken(
            "set-of-an-empty-step", MINIMAL, "--set:1:1: cannot set 'optimizer..lr=3'", settings=["optimizer..lr=3"]
        ),
        Broken(
            "set-inside-a-number",
            MINIMAL + "seed: 3\n",
            "--set:1:1: 'x' is set inside a single value",
            settings=["seed.x=3"],
        ),
        Broken(
            "set-of-no-entry",
            MINIMAL,
            "--set:2:1: '0' is no entry of this list",
            settings=["callbacks=[]", "callbacks.0.patience=3"],
        ),
        Broken(
            "set-past-the-end",
            MINIMAL,
            "--set:1:1: '7' is no entry of this list",
            settings=["model.architecture.hidden.7=3"],
        ),
        Broken("set-broken-yaml", MINIMAL, "--set:1:6: this bracket is never closed", settings=["seed=[1, 2"]),
        Broken("set-of-a-tag", MINIMAL, "--set:1:6: tags are not used here: !!int", settings=["seed=!!int 3"]),
        Broken(
            "set-of-two-documents", MINIMAL, "--set:1:8: a second document starts here", settings=["seed=1\n---\n2"]
        ),
        Broken("set-of-an-unknown-key", MINIMAL, "--set:1:1: unknown key 'optimzer'", settings=["optimzer.lr=3"]),
        Broken(
            "set-of-a-wrong-value",
            MINIMAL,
            "--set:1:17: 'epochs' must be a whole number, not the text 'many'",
            settings=["training.epochs=many"],
        ),
        Broken(
            "set-of-an-unknown-part",
            MINIMAL,
            "--set:1:18: unknown activation 'sellu'",
            settings=["model.activation=sellu"],
        ),
        Broken(
            "set-of-nothing",
            MINIMAL,
            "--set:1:17: 'epochs' must be a whole number, but is empty",
            settings=["training.epochs="],
        ),
        Broken("set-of-the-root", MINIMAL, "--set:1:6: 'data' must be a mapping, but is empty", settings=["data=null"]),
        Broken("set-extends", MINIMAL, "--set:1:1: unknown key 'extends'", settings=["extends=other.yaml"]),
        Broken(
            "set-of-two-mistakes",
            MINIMAL,
            "--set:1:6: 'seed' must be at least 0, not -1",
            "--set:2:6: 'name' must be letters, digits, '-' and '_', at most 100 of them, not the text 'a b'",
            settings=["seed=-1", "name=a b"],
        ),
        Broken(
            "set-of-control-characters",
            MINIMAL,
            "--set:1:6: the character U+001B cannot be shown",
            settings=["name=\x1b[31m"],
        ),
        Broken(
            "set-of-an-option-of-another-part",
            MINIMAL,
            "--set:2:1: unknown key 'betas'",
            settings=["optimizer=sgd", "optimizer.betas=[0, 0]"],
        ),
        Broken("set-an-alias", MINIMAL, "--set:1:6: unknown alias '*a'", settings=["seed=*a"]),
        Broken(
            "set-a-repeated-key",
            MINIMAL,
            "--set:1:24: key 'dataset' given twice",
            settings=["data={dataset: digits, dataset: npz}"],
        ),
    ],
    "what does not fit the data": [
        Broken(
            "numbers-for-classes", MINIMAL + "loss: mse\n", "3:7: mse needs numbers, but dataset 'digits' has classes"
        ),
        Broken(
            "classes-for-numbers",
            "data: {dataset: diabetes}\nmodel: {architecture: {name: mlp, hidden: [10]}}\nloss: cross_entropy\n",
            "3:7: cross_entropy needs classes, but dataset 'diabetes' has numbers",
        ),
        Broken(
            "one-class",
            "data: {dataset: digits, classes: [3]}\n" + MODEL,
            "1:34: there is only one class, so there is nothing to learn",
        ),
        Broken(
            "ten-classes-for-one-logit",
            MINIMAL + "loss: binary_cross_entropy\n",
            "3:7: binary_cross_entropy needs two classes, but there are 10",
        ),
        Broken(
            "weights-for-two-classes",
            MINIMAL + "loss: {name: cross_entropy, class_weights: [1, 2]}\n",
            "3:44: 2 weights for 10 classes",
        ),
        Broken(
            "more-guesses-than-classes",
            MINIMAL + "metrics: [accuracy, {name: top_k, k: 11}]\n",
            "3:21: metric 'top_k' counts the 11 most likely classes, but there are 10",
        ),
        Broken(
            "binary-average-of-ten",
            MINIMAL + "metrics: [{name: f1, average: binary}]\n",
            "3:11: metric 'f1' has average: binary, but there are 10 classes",
        ),
        Broken(
            "tokens-blended",
            "data: {dataset: {name: npz, path: tokens.npz}, augment: mixup}\n"
            "model: {architecture: {name: lstm, units: 4, embedding: {vocabulary: 17}}}\n",
            "1:57: mixup blends samples, and a blend of two tokens is another token",
        ),
        Broken("metric-of-numbers", MINIMAL + "metrics: mae\n", "3:10: metric 'mae' does not fit dataset 'digits'"),
        Broken(
            "balanced-numbers",
            "data: {dataset: diabetes, sampling: balanced}\n" + MODEL,
            "1:37: balanced sampling needs classes, but dataset 'diabetes' has numbers",
        ),
        Broken(
            "one-sample",
            DATA + "model: {normalization: batch, architecture: {name: mlp, hidden: [10]}}\n",
            "2:24: batch normalization takes statistics over a batch, and there is one training sample",
            settings=["data.limit=1"],
        ),
        Broken(
            "channels-of-a-table",
            "data: {dataset: diabetes, standardize: channel}\n" + MODEL,
            "1:40: channel needs pictures, but dataset 'diabetes' has features",
        ),
        Broken(
            "crop-of-a-table",
            "data: {dataset: diabetes, augment: horizontal_flip}\n" + MODEL,
            "1:36: horizontal_flip changes pictures, but dataset 'diabetes' has features",
        ),
        Broken(
            "standardized-tokens",
            DATA + "model: {architecture: {name: lstm, units: 4, embedding: {vocabulary: 99}}}\n",
            "--set:1:18: tokens cannot be standardized",
            settings=["data.standardize=unit"],
        ),
        Broken(
            "tokens-beyond-the-vocabulary",
            DATA + "model: {architecture: {name: lstm, units: 4, embedding: {vocabulary: 5}}}\n",
            "2:57: tokens go from 0 to 16, but the embedding knows 0 to 4",
        ),
        Broken(
            "class-of-no-name",
            "data: {dataset: digits, classes: [x, y]}\n" + MODEL,
            "1:34: 'classes': there is no class 'x'; known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        ),
        Broken(
            "class-of-no-number",
            "data: {dataset: digits, classes: [0, 10]}\n" + MODEL,
            "1:34: 'classes': there is no class 10; indices go from 0 to 9",
        ),
        Broken(
            "class-named-twice",
            "data: {dataset: digits, classes: [1, 1]}\n" + MODEL,
            "1:34: 'classes': the class '1' is named twice",
        ),
        Broken(
            "two-rests",
            "data: {dataset: digits, classes: {a: rest, b: rest}}\n" + MODEL,
            "1:34: 'classes': two groups take 'rest'; one can",
        ),
        Broken(
            "empty-group",
            "data: {dataset: digits, classes: {a: [0], b: []}}\n" + MODEL,
            "1:34: 'classes': the group 'b' is empty",
        ),
        Broken(
            "size-of-everything",
            "data: {dataset: digits, validation: {size: 99999}}\n" + MODEL,
            "1:37: 'validation': size 99,999 of 1,438 training samples leaves none to train on; set fewer of",
        ),
        Broken(
            "strata-of-numbers",
            "data: {dataset: diabetes, validation: {fraction: 0.1, from: stratified}}\n" + MODEL,
            "1:39: 'validation': 'from: stratified' needs classes, and this is a regression; use 'from: random'",
        ),
        Broken(
            "too-many-folds",
            "data: {dataset: digits, validation: {folds: 9999, fold: 0}}\n" + MODEL,
            "1:37: 'validation': 1,438 training samples cannot be divided into 9,999 folds; use fewer",
        ),
        Broken(
            "metric-that-is-not-measured",
            MINIMAL + "training: {monitor: valid/f1}\n",
            "3:21: valid/f1 is monitored but not measured",
        ),
    ],
    "what does not fit the network": [
        Broken(
            "groups-that-do-not-divide",
            DATA + WITH + "normalization: {name: group, groups: 3}}\n",
            "2:65: normalization group cannot part 10 features into 3 equal groups; set groups to one of 1, 2,",
        ),
        Broken(
            "group-of-one-value",
            DATA + WITH + "normalization: {name: group, groups: 10}}\n",
            "2:65: normalization group would take its statistics over a single value here, and so lose it; use",
        ),
        Broken(
            "instance-norm-of-units",
            DATA + WITH + "normalization: instance}\n",
            "2:65: normalization instance takes its statistics over the positions of a picture or a sequence,",
        ),
        Broken(
            "spatial-dropout-of-units",
            DATA + WITH + "dropout: [{name: dropout, rate: 0.1}, {name: spatial, rate: 0.1}]}\n",
            "2:88: dropout spatial silences whole channels of a picture or a sequence, and a dense layer has",
        ),
        Broken(
            "group-of-no-layer",
            MINIMAL + "optimizer: {name: adam, groups: [{layers: nope}]}\n",
            "3:33: no layer matches 'nope'; there are dense1, output",
        ),
        Broken(
            "decay-that-the-optimizer-has-not",
            MINIMAL + "optimizer: {name: adadelta, groups: [{layers: dense1, weight_decay: 0.1}]}\n",
            "3:37: this optimizer has no weight decay to set for 'dense1'",
        ),
        Broken(
            "penalty-of-no-layer",
            MINIMAL + "regularizers: [{name: l1, strength: 0.1}, {name: l2, strength: 0.1, layers: nope}]\n",
            "3:43: no layer with weights matches 'nope'; there are dense1, output",
        ),
        Broken(
            "larger-than-memory",
            DATA + "model: {architecture: {name: mlp, hidden: [1000000000000]}}\n",
            "2:23: this network is too large for the memory of this machine",
        ),
        Broken(
            "larger-than-numbers",
            DATA + "model: {activation: relu, architecture: {name: mlp, hidden: [99999999999999999999999]}}\n",
            "2:41: this network is too large for the memory of this machine",
        ),
        Broken(
            "pictures-for-a-table",
            "data: {dataset: diabetes}\nmodel: {architecture: {name: cnn, widths: [4]}}\n",
            "1:7: channel needs pictures, but dataset 'diabetes' has features",
        ),
        Broken(
            "pools-of-too-small-pictures",
            DATA + "model: {architecture: {name: cnn, widths: [4, 4, 4, 4, 4, 4]}}\n",
            "2:23: model.architecture.widths has 6 blocks, each ending in a pool that halves the picture, but",
        ),
    ],
}
