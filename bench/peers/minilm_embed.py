"""Embeds texts with ONNX Runtime on one thread. Arguments: the model, a file with the
token ids of a text in each line, and where the vectors go, float32 one after the other,
each scaled to length 1. Prints ONNX Runtime's version and the number of texts."""

import sys

import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
vectors = []
with open(sys.argv[2], encoding="ascii") as file:
    for line in file:
        ids = numpy.array([line.split()], numpy.int64)
        v = session.run(None, {"ids": ids})[0][0]
        vectors.append(v / numpy.linalg.norm(v))
numpy.stack(vectors).astype(numpy.float32).tofile(sys.argv[3])
print(onnxruntime.__version__, len(vectors))
