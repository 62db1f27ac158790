// cuBLAS for the card that is not there (driver.c): its memory is the host's, so products are computed,
// slowly and right. It shows that a product asks for what its tensors mean.

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Status;
typedef void *Handle;

enum { OK = 0, NOT_SUPPORTED = 15, F32 = 0, BF16 = 14 };
// Products larger than this are counted and not computed, where launches do nothing.
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

// A product as it was asked for.
struct Gemm { int op_a, op_b, m, n, k; float alpha, beta; const void *a, *b; void *c; int type, type_c, lda, ldb, ldc, batches; long long stride_a, stride_b, stride_c; };
static void run(void *data) {
    struct Gemm *g = data;
    int m = g->m, n = g->n, k = g->k;
    float *A = malloc(sizeof(float) * m * (size_t)k), *B = malloc(sizeof(float) * n * (size_t)k);
    for (int batch = 0; batch < g->batches; batch++) {
        #pragma omp parallel for
        for (int row = 0; row < m; row++) for (int i = 0; i < k; i++)
            A[(size_t)row * k + i] = get(g->a, g->type, batch * g->stride_a + (g->op_a ? (long long)row * g->lda + i : (long long)i * g->lda + row));
        #pragma omp parallel for
        for (int col = 0; col < n; col++) for (int i = 0; i < k; i++)
            B[(size_t)col * k + i] = get(g->b, g->type, batch * g->stride_b + (g->op_b ? (long long)i * g->ldb + col : (long long)col * g->ldb + i));
        #pragma omp parallel for
        for (int col = 0; col < n; col++) for (int row = 0; row < m; row++) {
            const float *x = A + (size_t)row * k, *y = B + (size_t)col * k;
            float sums[16] = {0}, sum = 0;
            int i = 0;
            for (; i + 16 <= k; i += 16) for (int j = 0; j < 16; j++) sums[j] += x[i + j] * y[i + j];
            for (; i < k; i++) sum += x[i] * y[i];
            for (int j = 0; j < 16; j++) sum += sums[j];
            long long at = batch * g->stride_c + (long long)col * g->ldc + row;
            float before = g->beta ? g->beta * get(g->c, g->type_c, at) : 0;
            put(g->c, g->type_c, at, g->alpha * sum + before);
        }
    }
    free(A); free(B);
}
Status cublasGemmStridedBatchedEx(Handle handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
                                  const void *a, int type_a, int lda, long long stride_a, const void *b, int type_b,
                                  int ldb, long long stride_b, const void *beta, void *c, int type_c, int ldc,
                                  long long stride_c, int batches, int compute, int algorithm) {
    if ((type_a != F32 && type_a != BF16) || type_b != type_a || (type_c != type_a && type_c != F32))
        return NOT_SUPPORTED;
    __sync_fetch_and_add(&products, 1);
    const char *computes = getenv("CARD_COMPUTES");
    if (computes && !strcmp(computes, "0") && (long long)m * n * k * batches > MOST) {
        __sync_fetch_and_add(&skipped, 1);
        return OK;
    }
    static int (*card_do)(void (*)(void *), const void *, size_t);
    if (!card_do) card_do = dlsym(dlopen("libnvcuda.so", RTLD_NOW | RTLD_NOLOAD), "card_do");
    struct Gemm g = {op_a, op_b, m, n, k, *(const float *)alpha, *(const float *)beta, a, b, c, type_a, type_c, lda, ldb, ldc, batches, stride_a, stride_b, stride_c};
    return card_do(run, &g, sizeof g);
}

Status cublasGemmEx(Handle handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int type_a,
                    int lda, const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc,
                    int compute, int algorithm) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c,
                                      type_c, ldc, 0, 1, compute, algorithm);
}
