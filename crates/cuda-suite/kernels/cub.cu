// Block-wide sort, scan and reduction of CUB: templates that take a compiler seconds.
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>

constexpr int THREADS = 256;
constexpr int ITEMS = 8;

template <class T>
__device__ void load(const T *from, T (&items)[ITEMS]) {
    for (int i = 0; i < ITEMS; ++i) items[i] = from[threadIdx.x * ITEMS + i];
}

template <class T>
__device__ void store(T *to, const T (&items)[ITEMS]) {
    for (int i = 0; i < ITEMS; ++i) to[threadIdx.x * ITEMS + i] = items[i];
}

template <class T>
__global__ void sort(T *data) {
    using Sort = cub::BlockRadixSort<T, THREADS, ITEMS>;
    __shared__ typename Sort::TempStorage scratch;
    T items[ITEMS];
    load(data, items);
    Sort(scratch).Sort(items);
    store(data, items);
}

template <class T>
__global__ void scan(T *data) {
    using Scan = cub::BlockScan<T, THREADS>;
    __shared__ typename Scan::TempStorage scratch;
    T items[ITEMS];
    load(data, items);
    Scan(scratch).InclusiveSum(items, items);
    store(data, items);
}

template <class T>
__global__ void reduce(const T *data, T *sum) {
    using Reduce = cub::BlockReduce<T, THREADS>;
    __shared__ typename Reduce::TempStorage scratch;
    T items[ITEMS];
    load(data, items);
    T total = Reduce(scratch).Sum(items);
    if (threadIdx.x == 0) *sum = total;
}
