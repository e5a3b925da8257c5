"""Writes MODEL.onnx, MiniLM in float32 as a graph of standard operators, and what
ONNX Runtime's dynamic quantization makes of it, OUT: int8 weights, activations
quantized as they come. Arguments: the model's folder, OUT."""

import json
import pathlib
import sys
import tempfile

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
config = json.loads((folder / "config.json").read_text())
weights = load_file(folder / "model.safetensors")
width, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
nodes, constants = [], {}


def node(op, *inputs, **attributes):
    name = f"v{len(nodes)}"
    nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
    return name


def constant(name, value):
    constants[name] = numpy_helper.from_array(numpy.ascontiguousarray(value), name)
    return name


def weight(name):
    return constant(name, weights[name])


def linear(x, name):
    y = node("MatMul", x, constant(name + ".weight", weights[name + ".weight"].T))
    return node("Add", y, weight(name + ".bias"))


def norm(x, name):
    return node("LayerNormalization", x, weight(name + ".weight"), weight(name + ".bias"), axis=-1, epsilon=config["layer_norm_eps"])


def split(x, *order):
    x = node("Reshape", x, constant("split", numpy.array([0, 0, heads, width // heads], numpy.int64)))
    return node("Transpose", x, perm=order)


def gelu(x):
    erf = node("Erf", node("Div", x, constant("root", numpy.float32(2**0.5))))
    y = node("Mul", x, node("Add", erf, constant("one", numpy.float32(1))))
    return node("Mul", y, constant("half", numpy.float32(0.5)))


word = node("Gather", weight("embeddings.word_embeddings.weight"), "ids")
length = node("Shape", "ids", start=1, end=2)
zero = constant("zero", numpy.array([0], numpy.int64))
position = node("Slice", weight("embeddings.position_embeddings.weight"), zero, length)
x = node("Add", word, node("Add", position, constant("type", weights["embeddings.token_type_embeddings.weight"][0])))
x = norm(x, "embeddings.LayerNorm")
for i in range(layers):
    at = f"encoder.layer.{i}."
    q = split(linear(x, at + "attention.self.query"), 0, 2, 1, 3)
    k = split(linear(x, at + "attention.self.key"), 0, 2, 3, 1)
    v = split(linear(x, at + "attention.self.value"), 0, 2, 1, 3)
    scores = node("Div", node("MatMul", q, k), constant("scale", numpy.float32((width // heads) ** 0.5)))
    y = node("Transpose", node("MatMul", node("Softmax", scores, axis=-1), v), perm=(0, 2, 1, 3))
    y = node("Reshape", y, constant("join", numpy.array([0, 0, width], numpy.int64)))
    x = norm(node("Add", x, linear(y, at + "attention.output.dense")), at + "attention.output.LayerNorm")
    y = linear(gelu(linear(x, at + "intermediate.dense")), at + "output.dense")
    x = norm(node("Add", x, y), at + "output.LayerNorm")
nodes.append(helper.make_node("ReduceMean", [x, constant("tokens", numpy.array([1], numpy.int64))], ["mean"], keepdims=0))

graph = helper.make_graph(
    nodes,
    "minilm",
    [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "tokens"])],
    [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, width])],
    list(constants.values()),
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
with tempfile.TemporaryDirectory() as folder:
    plain = str(pathlib.Path(folder) / "plain.onnx")
    onnx.save(model, plain)
    quantize_dynamic(plain, out, weight_type=QuantType.QInt8)
