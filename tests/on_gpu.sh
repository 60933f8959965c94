#!/usr/bin/env bash
# What is checked where there is a GPU, in two steps, since the machine with the GPU may have nothing but Python, torch and a driver:
#
#   tests/on_gpu.sh build FOLDER     here: libraries for GPUs and the CPU, by $GDLC (target/release/gdlc, with LLVM; ptxas for machine code)
#   tests/on_gpu.sh run FOLDER       there: each model and derivative against the CPU, products of tensor cores within their bounds, the Python
#                                    packages, then times beside torch and e3nn
set -euo pipefail
cd "$(dirname "$0")/.."
gdlc=${GDLC:-target/release/gdlc}
arch=${GDL_ARCH:-sm_90}
[ $# = 2 ] || { echo "usage: $0 build|run FOLDER" >&2; exit 2; }

# A folder of models, each `programs/NAME` with what it is built with.
build() {
    local to=$1 file=$2
    shift 2
    echo "$to: $file $*"
    "$gdlc" build "$file" --target cuda --arch "$arch" -o "$to" "$@" >/dev/null
}

case $1 in
build)
    programs=benches/programs
    for name in sgemm conv deepsets gcn gat mpnn p4m irreps tensor_product; do build "$2/first" $programs/$name.gdl --grad 1; done
    for file in examples/digits.gdl examples/lenet.gdl $programs/nequip.gdl $programs/forces.gdl; do build "$2/first" "$file" --grad 1; done
    for name in deepsets gcn gat; do build "$2/second" $programs/$name.gdl --grad 2; done
    for name in deepsets gat mpnn; do build "$2/f64" $programs/$name.gdl --grad 1 --dtype f64; done
    for products in tf32 bf16 f16; do
        for name in sgemm conv deepsets; do build "$2/$products" $programs/$name.gdl --products $products; done
    done
    for name in sgemm conv deepsets; do build "$2/exact" $programs/$name.gdl --dtype f64; done
    python3 -c 'import sys; sys.path.insert(0, "tests"); import python_package; python_package.write_programs(sys.argv[1])' "$2"
    build "$2/packages/messages" "$2/messages.gdl" --grad 2 --dtype f64 --bind python
    build "$2/packages/digits" examples/digits.gdl --grad 1 --bind python
    build "$2/packages/atoms" "$2/atoms.gdl" --grad 1 --dtype f64 --bind python
    ;;
run)
    status=0
    for folder in first second f64; do
        echo "== $folder"
        python3 tests/on_gpu.py "$2/$folder" --time || status=1
    done
    for products in tf32 bf16 f16; do
        echo "== products in $products"
        python3 tests/on_gpu.py "$2/$products" --products $products --exact "$2/exact" || status=1
    done
    echo "== the Python packages"
    python3 tests/python_cuda.py "$2/packages" || status=1
    echo "== times"
    python3 benches/on_gpu.py "$2/first" || status=1
    for products in tf32 bf16 f16; do python3 benches/on_gpu.py "$2/$products" --products $products || status=1; done
    exit $status
    ;;
*)
    echo "usage: $0 build|run FOLDER" >&2
    exit 2
    ;;
esac
