#!/bin/sh
# What `make test-gpu` runs on a machine with an NVIDIA GPU: the tests of hostgpu on it,
# in place of the stand-in that they have elsewhere; training steps of MiniLM; and the
# same steps by PyTorch, where it is installed and sees the GPU.
set -eu

: "${GO:=go}" "${SHARED:=../shared}"
export WISP_TEST_GPU=1
# Where cuBLAS came with PyTorch alone, it is not on the library path.
if ! ldconfig -p 2>/dev/null | grep -q libcublas.so; then
	blas=$(python3 -c 'import glob, site; print(":".join({p.rpartition("/")[0] for d in site.getsitepackages() for p in glob.glob(d + "/nvidia/*/lib/libcublas.so.*")}))' 2>/dev/null || true)
	export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$blas"
fi
$GO run ./cmd/wisp doctor | grep '^GPU'
$GO test -count 1 -timeout 30m ./hostgpu
$GO test -run '^$' -bench 'OnGPU' -benchtime 20x ./hostgpu

minilm=$SHARED/models/all-MiniLM-L6-v2
if ! python3 -c 'import torch, transformers, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
	echo "test-gpu: python3 has no PyTorch and transformers that see the GPU: steps are not compared with theirs"
elif [ ! -d "$minilm" ]; then
	echo "test-gpu: no encoder in $minilm: steps are not compared with PyTorch's"
else
	for size in "16 32" "128 128"; do
		set -- $size
		echo 20 | python3 bench/peers/minilm.py "$minilm" "$1" "$2" cuda | awk -v size="$((2 * $1))x$2" \
			'NR == 1 { version = $1 } NR == 2 { printf "PyTorch %s, %s: %.3f ms a step\n", version, size, $1 / 20 * 1000 }'
	done
fi
