// cuBLAS for the card that is not there (driver.c): its memory is the host's, so products are computed,
// slowly and right. It shows that a product asks for what its tensors mean.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Status;
typedef void *Handle;

enum { OK = 0, NOT_SUPPORTED = 15, F32 = 0, BF16 = 14 };
// Products larger than this are counted and not computed.
#define MOST (1LL << 20)

static long products, skipped;

static void tell(void) {
    fprintf(stderr, "offline cuBLAS: %ld products, %ld of them too large to compute\n", products, skipped);
}

Status cublasCreate_v2(Handle *handle) {
    *handle = calloc(1, sizeof(double));
    atexit(tell);
    return OK;
}
Status cublasGetVersion_v2(Handle handle, int *version) {
    *version = 130002;
    return OK;
}
Status cublasDestroy_v2(Handle handle) { free(handle); return OK; }
Status cublasSetStream_v2(Handle handle, void *stream) { return stream ? OK : NOT_SUPPORTED; }
Status cublasSetWorkspace_v2(Handle handle, void *memory, size_t bytes) { return OK; }
Status cublasSetMathMode(Handle handle, int mode) { return OK; }

static float get(const void *data, int type, long long at) {
    if (type == F32) return ((const float *)data)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)data)[at] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void put(void *data, int type, long long at, float value) {
    uint32_t bits;
    if (type == F32) {
        ((float *)data)[at] = value;
        return;
    }
    memcpy(&bits, &value, sizeof bits);
    bits += 0x7fff + ((bits >> 16) & 1); // to the nearest, ties to even
    ((uint16_t *)data)[at] = (uint16_t)(bits >> 16);
}

Status cublasGemmStridedBatchedEx(Handle handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                                  const void *a, int type_a, int lda, long long stride_a, const void *b, int type_b,
                                  int ldb, long long stride_b, const void *beta, void *c, int type_c, int ldc,
                                  long long stride_c, int batches, int compute, int algorithm) {
    if ((type_a != F32 && type_a != BF16) || type_b != type_a || (type_c != type_a && type_c != F32))
        return NOT_SUPPORTED;
    __sync_fetch_and_add(&products, 1);
    if ((long long)m * n * k * batches > MOST) {
        __sync_fetch_and_add(&skipped, 1);
        return OK;
    }
    for (int batch = 0; batch < batches; batch++)
        for (int col = 0; col < n; col++)
            for (int row = 0; row < m; row++) {
                float sum = 0;
                for (int i = 0; i < k; i++)
                    sum += get(a, type_a, batch * stride_a + (op_a ? (long long)row * lda + i : (long long)i * lda + row)) *
                           get(b, type_b, batch * stride_b + (op_b ? (long long)i * ldb + col : (long long)col * ldb + i));
                long long at = batch * stride_c + (long long)col * ldc + row;
                float before = *(const float *)beta ? *(const float *)beta * get(c, type_c, at) : 0;
                put(c, type_c, at, *(const float *)alpha * sum + before);
            }
    return OK;
}

Status cublasGemmEx(Handle handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int type_a,
                    int lda, const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc,
                    int compute, int algorithm) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c,
                                      type_c, ldc, 0, 1, compute, algorithm);
}
