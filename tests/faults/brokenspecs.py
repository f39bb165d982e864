"""Texts that are YAML and no experiment, by what is wrong with them."""

from __future__ import annotations

from broken import DATA, MINIMAL, MODEL, WITH, Broken

BROKEN_SPECS: dict[str, list[Broken]] = {
    "missing and empty": [
        Broken("no-data", MODEL, "1:1: missing required key 'data.dataset'"),
        Broken("no-model", DATA, "1:1: missing required key 'model.architecture'"),
        Broken("no-dataset", "data: {limit: 3}\n" + MODEL, "1:7: missing required key 'data.dataset'"),
        Broken(
            "no-architecture", DATA + "model: {activation: relu}\n", "2:8: missing required key 'model.architecture'"
        ),
        Broken(
            "no-hidden", DATA + "model: {architecture: mlp}\n", "2:23: missing required key 'model.architecture.hidden'"
        ),
        Broken(
            "no-units",
            DATA + "model: {architecture: {name: mlp, hidden: {layers: 3}}}\n",
            "2:43: missing required key 'model.architecture.hidden.units'",
        ),
        Broken("no-rate", DATA + WITH + "dropout: alpha}\n", "2:59: missing required key 'model.dropout.rate'"),
        Broken(
            "no-metric",
            MINIMAL + "training: {monitor: {mode: max}}\n",
            "3:21: missing required key 'training.monitor.metric'",
        ),
        Broken("no-strength", MINIMAL + "regularizers: l2\n", "3:15: missing required key 'regularizers.strength'"),
        Broken("no-path", "data: {dataset: npz}\n" + MODEL, "1:17: missing required key 'data.dataset.path'"),
        Broken(
            "no-layers-in-a-group",
            MINIMAL + "optimizer: {name: adam, groups: [{lr: 0.1}]}\n",
            "3:34: missing required key 'optimizer.groups.0.layers'",
        ),
        Broken("empty-section", "data:\n" + MODEL, "1:6: 'data' must be a mapping, but is empty"),
        Broken("empty-training", MINIMAL + "training:\n", "3:10: 'training' must be a mapping, but is empty"),
        Broken(
            "empty-loss",
            MINIMAL + "loss:\n",
            "3:6: 'loss' must be the name of a loss, or a mapping with a name, but is empty",
        ),
        Broken(
            "empty-schedule",
            MINIMAL + "schedule:\n",
            "3:10: 'schedule' must be the name of a schedule, or a mapping with a name, but is empty",
        ),
        Broken(
            "empty-epochs", MINIMAL + "training: {epochs: }\n", "3:19: 'epochs' must be a whole number, but is empty"
        ),
    ],
    "unknown keys": [
        Broken("misspelt", MINIMAL + "seeed: 3\n", "3:1: unknown key 'seeed'"),
        Broken("misspelt-below", MINIMAL + "training: {epoch: 3}\n", "3:12: unknown key 'epoch'"),
        Broken(
            "misspelt-option",
            MINIMAL + "callbacks: [{name: early_stopping, patienc: 3}]\n",
            "3:36: unknown key 'patienc'",
        ),
        Broken("in-another-section", MINIMAL + "epochs: 3\n", "3:1: unknown key 'epochs'"),
        Broken("belongs-at-the-top", MINIMAL + "training: {seed: 3}\n", "3:12: unknown key 'seed'"),
        Broken(
            "of-another-part", MINIMAL + "optimizer: {name: sgd, betas: [0.9, 0.99]}\n", "3:24: unknown key 'betas'"
        ),
        Broken("of-another-tool", MINIMAL + "optimizer: {learning_rate: 1}\n", "3:13: unknown key 'learning_rate'"),
        Broken("that-follows-from-others", MINIMAL + "bias: true\n", "3:1: unknown key 'bias'"),
        Broken("like-nothing", MINIMAL + "qqqq: 1\n", "3:1: unknown key 'qqqq'"),
        Broken("where-there-are-no-options", MINIMAL + "loss: {name: mse, qqqq: 1}\n", "3:19: unknown key 'qqqq'"),
        Broken(
            "very-long",
            MINIMAL + "x" * 500 + ": 1",
            "3:1: unknown key 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'",
        ),
        Broken("with-control-characters", MINIMAL + '"a\\e[31m": 1\n', "3:1: unknown key 'a\\x1b[31m'"),
        Broken("extends-below", MINIMAL + "training: {extends: x}\n", "3:12: unknown key 'extends'"),
    ],
    "unknown parts": [
        Broken("dataset", "data: {dataset: digitz}\n" + MODEL, "1:17: unknown dataset 'digitz'"),
        Broken("architecture", DATA + "model: {architecture: mpl}\n", "2:23: unknown architecture 'mpl'"),
        Broken("activation", DATA + WITH + "activation: sellu}\n", "2:62: unknown activation 'sellu'"),
        Broken("activation-of-another-name", DATA + WITH + "activation: silu}\n", "2:62: unknown activation 'silu'"),
        Broken(
            "initializer", DATA + WITH + "initializer: xavier_uniform}\n", "2:63: unknown initializer 'xavier_uniform'"
        ),
        Broken(
            "normalization", DATA + WITH + "normalization: batch_norm}\n", "2:65: unknown normalization 'batch_norm'"
        ),
        Broken("dropout", DATA + WITH + "dropout: [alfa]}\n", "2:60: unknown dropout 'alfa'"),
        Broken("optimizer", MINIMAL + "optimizer: Adamm\n", "3:12: unknown optimizer 'Adamm'"),
        Broken("schedule", MINIMAL + "schedule: cosin\n", "3:11: unknown schedule 'cosin'"),
        Broken("loss", MINIMAL + "loss: mze\n", "3:7: unknown loss 'mze'"),
        Broken("metric", MINIMAL + "metrics: [acc]\n", "3:11: unknown metric 'acc'"),
        Broken("regularizer", MINIMAL + "regularizers: [l3]\n", "3:16: unknown regularizer 'l3'"),
        Broken("callback", MINIMAL + "callbacks: [stop]\n", "3:13: unknown callback 'stop'"),
        Broken("average", MINIMAL + "training: {average: emma}\n", "3:21: unknown average 'emma'"),
        Broken(
            "augmentation", "data: {dataset: digits, augment: [flip]}\n" + MODEL, "1:35: unknown augmentation 'flip'"
        ),
        Broken("unnamed", MINIMAL + "metrics: {accuracy: true}\n", "3:10: this metric lacks its name"),
        Broken(
            "named-by-a-mapping",
            MINIMAL + "optimizer: {name: {sgd: 1}}\n",
            "3:19: 'name' must be the name of an optimizer, not a mapping",
        ),
        Broken(
            "a-list-of-parts",
            MINIMAL + "optimizer: [sgd]\n",
            "3:12: 'optimizer' must be the name of an optimizer, or a mapping with a name, not a list",
        ),
        Broken(
            "a-number-for-a-part",
            MINIMAL + "loss: 3\n",
            "3:7: 'loss' must be the name of a loss, or a mapping with a name, not 3",
        ),
        Broken(
            "auto-with-options",
            MINIMAL + "loss: {name: auto, x: 1}\n",
            "3:14: auto picks the loss, so there is nothing to set beside it",
        ),
        Broken("with-markup", MINIMAL + "loss: '[red]mse[/red]'\n", "3:7: unknown loss '[red]mse[/red]'"),
    ],
    "wrong types": [
        Broken(
            "quoted-number",
            "data: {dataset: digits, batch_size: '32'}\n" + MODEL,
            "1:37: 'batch_size' must be a whole number, not the text '32'",
        ),
        Broken(
            "text-for-a-number", MINIMAL + "optimizer: {lr: fast}\n", "3:17: 'lr' must be a number, not the text 'fast'"
        ),
        Broken(
            "underscores", MINIMAL + "optimizer: {lr: 1_000}\n", "3:17: 'lr' must be a number, not the text '1_000'"
        ),
        Broken("percent", MINIMAL + "optimizer: {lr: 10%}\n", "3:17: 'lr' must be a number, not the text '10%'"),
        Broken(
            "fraction-for-a-whole-number",
            MINIMAL + "training: {epochs: 2.5}\n",
            "3:20: 'epochs' must be a whole number, not 2.5",
        ),
        Broken(
            "float-for-a-whole-number",
            MINIMAL + "training: {epochs: 1e3}\n",
            "3:20: 'epochs' must be a whole number, not 1000.0",
        ),
        Broken(
            "truth-for-a-number",
            MINIMAL + "training: {epochs: true}\n",
            "3:20: 'epochs' must be a whole number, not true",
        ),
        Broken(
            "yes-for-true",
            MINIMAL + "callbacks: {name: early_stopping, restore_best: yes}\n",
            "3:49: 'restore_best' must be true or false, not the text 'yes'",
        ),
        Broken(
            "number-for-true",
            MINIMAL + "training: {compile: 1}\n",
            "3:21: 'compile' must be auto, true or false, not 1",
        ),
        Broken("list-for-a-number", MINIMAL + "optimizer: {lr: [1]}\n", "3:17: 'lr' must be a number, not a list"),
        Broken("number-for-a-mapping", MINIMAL + "training: {clip: 1.0}\n", "3:18: 'clip' must be a mapping, not 1.0"),
        Broken("list-for-a-section", MINIMAL + "training: [1]\n", "3:11: 'training' must be a mapping, not a list"),
        Broken("text-for-a-section", DATA + "model: mlp\n", "2:8: 'model' must be a mapping, not the text 'mlp'"),
        Broken("number-for-a-list", MINIMAL + "optimizer: {betas: 0.9}\n", "3:20: 'betas' must be a list, not 0.9"),
        Broken(
            "wrong-entry",
            DATA + "model: {architecture: {name: mlp, hidden: [10, wide]}}\n",
            "2:48: entry 1 of 'hidden' must be a whole number, not the text 'wide'",
        ),
        Broken(
            "nothing-among-entries",
            DATA + "model: {architecture: {name: mlp, hidden: [10, ~]}}\n",
            "2:48: entry 1 of 'hidden' must be a whole number, but is empty",
        ),
        Broken(
            "none-for-a-word",
            MINIMAL + "training: {precision: null}\n",
            "3:23: 'precision' must be auto, fp32, tf32, bf16 or fp16, but is empty",
        ),
        Broken(
            "word-for-validation",
            "data: {dataset: digits, validation: no}\n" + MODEL,
            "1:37: 'validation' must be none or a mapping, not the text 'no'",
        ),
        Broken(
            "number-for-validation",
            "data: {dataset: digits, validation: 0.1}\n" + MODEL,
            "1:37: 'validation' must be none or a mapping, not 0.1",
        ),
        Broken(
            "list-for-a-path",
            "data: {dataset: {name: npz, path: [a]}}\n" + MODEL,
            "1:35: 'path' must be a path, not a list",
        ),
        Broken(
            "empty-path",
            "data: {dataset: {name: npz, path: ''}}\n" + MODEL,
            "1:35: 'path' must be a path, not an empty text",
        ),
        Broken(
            "null-in-a-path",
            'data: {dataset: {name: npz, path: "a\\0b"}}\n' + MODEL,
            "1:35: 'path' must be a path, not the text 'a\\x00b'",
        ),
        Broken(
            "number-for-text",
            "data: {dataset: {name: csv, path: a.csv, target: 3}}\n" + MODEL,
            "1:50: 'target' must be text, not 3",
        ),
        Broken(
            "pattern-of-numbers",
            MINIMAL + "regularizers: {name: l2, strength: 1, layers: [1]}\n",
            "3:48: entry 0 of 'layers' must be text, not 1",
        ),
        Broken(
            "number-for-classes",
            "data: {dataset: digits, classes: 3}\n" + MODEL,
            "1:34: 'classes' must be a list or a mapping, not 3",
        ),
        Broken(
            "word-for-a-group",
            "data: {dataset: digits, classes: {a: rset}}\n" + MODEL,
            "1:38: 'a' must be rest or a list, not the text 'rset'",
        ),
    ],
    "words": [
        Broken(
            "precision",
            MINIMAL + "training: {precision: fp23}\n",
            "3:23: 'precision' must be auto, fp32, tf32, bf16 or fp16, not the text 'fp23'",
        ),
        Broken(
            "threads",
            MINIMAL + "training: {threads: aut}\n",
            "3:21: 'threads' must be auto or a whole number, not the text 'aut'",
        ),
        Broken(
            "device",
            MINIMAL + "training: {device: gpu}\n",
            "3:20: 'device' must be auto, cpu, cuda, cuda:N or mps, not the text 'gpu'",
        ),
        Broken(
            "device-number",
            MINIMAL + "training: {device: 0}\n",
            "3:20: 'device' must be auto, cpu, cuda, cuda:N or mps, not 0",
        ),
        Broken(
            "duration",
            MINIMAL + "training: {max_time: 10}\n",
            "3:22: 'max_time' must be a duration such as '90s', '30m', '2h' or '1.5d', not 10",
        ),
        Broken(
            "duration-of-nothing",
            MINIMAL + "training: {max_time: 0s}\n",
            "3:22: 'max_time' must be a duration such as '90s', '30m', '2h' or '1.5d', not the text '0s'",
        ),
        Broken(
            "duration-text",
            MINIMAL + "training: {max_time: soon}\n",
            "3:22: 'max_time' must be a duration such as '90s', '30m', '2h' or '1.5d', not the text 'soon'",
        ),
        Broken(
            "checkpoint-cadence",
            MINIMAL + "training: {checkpoint: {every: 0}}\n",
            "3:32: 'every' must be epoch, a number of optimizer steps, or a duration such as '10m', not 0",
        ),
        Broken(
            "checkpoint-cadence-text",
            MINIMAL + "training: {checkpoint: {every: now and then}}\n",
            "3:32: 'every' must be epoch, a number of optimizer steps, or a duration such as '10m', not the text",
        ),
        Broken(
            "metric-without-a-part",
            MINIMAL + "training: {monitor: loss}\n",
            "3:21: 'monitor' must be a metric such as valid/loss or train/accuracy, not the text 'loss'",
        ),
        Broken(
            "metric-of-the-test-split",
            MINIMAL + "training: {monitor: test/loss}\n",
            "3:21: 'monitor' must be a metric such as valid/loss or train/accuracy, not the text 'test/loss'",
        ),
        Broken(
            "mode",
            MINIMAL + "training: {monitor: {metric: valid/loss, mode: lowest}}\n",
            "3:48: 'mode' must be auto, min or max, not the text 'lowest'",
        ),
        Broken(
            "standardize",
            "data: {dataset: digits, standardize: z-score}\n" + MODEL,
            "1:38: 'standardize' must be auto, none, unit, channel, feature or pretrained, not the text 'z-score'",
        ),
        Broken(
            "sampling",
            "data: {dataset: digits, sampling: even}\n" + MODEL,
            "1:35: 'sampling' must be shuffle or balanced, not the text 'even'",
        ),
        Broken(
            "origin",
            "data: {dataset: digits, validation: {fraction: 0.1, from: middle}}\n" + MODEL,
            "1:59: 'from' must be auto, first, last, random or stratified, not the text 'middle'",
        ),
        Broken(
            "position",
            DATA + WITH + "normalization: {name: batch, position: behind}}\n",
            "2:89: 'position' must be before or after, not the text 'behind'",
        ),
        Broken(
            "layers",
            DATA + WITH + "dropout: {name: alpha, rate: 0.1, layers: first}}\n",
            "2:92: 'layers' must be all, hidden, input or last, not the text 'first'",
        ),
        Broken(
            "name-with-a-space",
            MINIMAL + "name: a b\n",
            "3:7: 'name' must be letters, digits, '-' and '_', at most 100 of them, not the text 'a b'",
        ),
        Broken(
            "name-too-long",
            MINIMAL + "name: " + "x" * 101,
            "3:7: 'name' must be letters, digits, '-' and '_', at most 100 of them, not the text",
        ),
        Broken(
            "class-number-below-zero",
            "data: {dataset: digits, classes: [-1]}\n" + MODEL,
            "1:35: entry 0 of 'classes' must be the name of a class, or its number counted from 0, not -1",
        ),
        Broken(
            "truth-for-a-class",
            "data: {dataset: digits, classes: [1, true]}\n" + MODEL,
            "1:38: entry 1 of 'classes' must be the name of a class, or its number counted from 0, not true",
        ),
    ],
    "bounds": [
        Broken("zero-rate", MINIMAL + "optimizer: {lr: 0}\n", "3:17: 'lr' must be greater than 0, not 0"),
        Broken("negative-rate", MINIMAL + "optimizer: {lr: -1e-3}\n", "3:17: 'lr' must be greater than 0, not -0.001"),
        Broken("infinite-rate", MINIMAL + "optimizer: {lr: .inf}\n", "3:17: 'lr' must be a finite number, not .inf"),
        Broken(
            "rate-that-is-no-number",
            MINIMAL + "optimizer: {lr: .nan}\n",
            "3:17: 'lr' must be a finite number, not .nan",
        ),
        Broken(
            "rate-too-large-for-a-float",
            MINIMAL + "optimizer: {name: sgd, lr: 1e999}\n",
            "3:28: 'lr' must be a finite number, not .inf",
        ),
        Broken(
            "momentum-of-one",
            MINIMAL + "optimizer: {name: sgd, momentum: 1}\n",
            "3:34: 'momentum' must be less than 1, not 1",
        ),
        Broken(
            "negative-decay",
            MINIMAL + "optimizer: {weight_decay: -0.5}\n",
            "3:27: 'weight_decay' must be at least 0, not -0.5",
        ),
        Broken("negative-seed", MINIMAL + "seed: -1\n", "3:7: 'seed' must be at least 0, not -1"),
        Broken(
            "seed-too-large",
            MINIMAL + "seed: 9223372036854775808\n",
            "3:7: 'seed' must be less than 9223372036854775808, not 9223372036854775808",
        ),
        Broken(
            "no-batch",
            "data: {dataset: digits, batch_size: 0}\n" + MODEL,
            "1:37: 'batch_size' must be greater than 0, not 0",
        ),
        Broken("no-epochs", MINIMAL + "training: {epochs: 0}\n", "3:20: 'epochs' must be greater than 0, not 0"),
        Broken(
            "no-limit", "data: {dataset: digits, limit: 0}\n" + MODEL, "1:32: 'limit' must be greater than 0, not 0"
        ),
        Broken(
            "whole-fraction",
            "data: {dataset: digits, validation: {fraction: 1}}\n" + MODEL,
            "1:48: 'fraction' must be less than 1, not 1",
        ),
        Broken(
            "one-fold",
            "data: {dataset: digits, validation: {folds: 1, fold: 0}}\n" + MODEL,
            "1:45: 'folds' must be at least 2, not 1",
        ),
        Broken(
            "dropout-of-one",
            DATA + WITH + "dropout: {name: alpha, rate: 1}}\n",
            "2:79: 'rate' must be less than 1, not 1",
        ),
        Broken(
            "momentum-above-one",
            DATA + WITH + "normalization: {name: batch, momentum: 2}}\n",
            "2:89: 'momentum' must be at most 1, not 2",
        ),
        Broken("one-beta", MINIMAL + "optimizer: {betas: [0.9]}\n", "3:20: 'betas' must have 2 entries, not 1"),
        Broken("three-betas", MINIMAL + "optimizer: {betas: [0, 0, 0]}\n", "3:20: 'betas' must have 2 entries, not 3"),
        Broken(
            "no-classes",
            "data: {dataset: digits, classes: []}\n" + MODEL,
            "1:34: 'classes' must have at least 1 entry, not 0",
        ),
        Broken(
            "no-widths",
            DATA + "model: {architecture: {name: cnn, widths: []}}\n",
            "2:43: 'widths' must have at least 1 entry, not 0",
        ),
        Broken(
            "empty-delimiter",
            "data: {dataset: {name: csv, path: a.csv, target: t, delimiter: ''}}\n" + MODEL,
            "1:64: 'delimiter' must have at least 1 character, not 0",
        ),
        Broken(
            "long-delimiter",
            "data: {dataset: {name: csv, path: a.csv, target: t, delimiter: ab}}\n" + MODEL,
            "1:64: 'delimiter' must have at most 1 character, not 2",
        ),
        Broken(
            "too-many-threads",
            MINIMAL + "training: {threads: 3000000000}\n",
            "3:21: 3,000,000,000 threads are more than any machine has use for; the limit is 1,024",
        ),
    ],
}
