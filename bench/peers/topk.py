"""Exact search for the ten best of N vectors of 64 float32 by their products with
one vector, on one thread, with Faiss. Prints its version and N, then for each
number read searches once, and as many times, and prints the seconds that those took."""

import sys
import time

import faiss
import numpy

n, width, hits = int(sys.argv[1]), 64, 10
faiss.omp_set_num_threads(1)
random = numpy.random.default_rng(1)
index = faiss.IndexFlatIP(width)
for at in range(0, n, 100_000):
    index.add(random.standard_normal((min(n - at, 100_000), width), dtype=numpy.float32))
query = random.standard_normal((1, width), dtype=numpy.float32)
print(faiss.__version__, index.ntotal, flush=True)
for line in sys.stdin:
    index.search(query, hits)
    start = time.perf_counter()
    for _ in range(int(line)):
        index.search(query, hits)
    print(time.perf_counter() - start, flush=True)
