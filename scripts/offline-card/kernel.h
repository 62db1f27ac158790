// A kernel that was translated to C (translate.py), what it is given, and the instructions of PTX for which C has no
// word. Included by what is translated, and by what runs it (emulator.c, driver.c).

#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <stddef.h>
#include <stdlib.h>
// What a thread sees. `at` tells where in the text a thread waits: threads that wait for each other wait at the same.
struct Env {
    uint32_t tid[3], ntid[3], ctaid[3], nctaid[3], lane, warp;
    char *params, *shared;
    uint32_t shared_bytes;
    void (*trap)(struct Env *);
    void (*barrier)(struct Env *, int at);
    void (*warp_sync)(struct Env *, int at, uint32_t mask);
    uint32_t (*activemask)(struct Env *, int at);
    uint32_t (*shuffle)(struct Env *, int at, int mode, uint32_t value, uint32_t lane, uint32_t clamp, uint32_t mask, uint8_t *in);
    uint32_t (*vote)(struct Env *, int at, int mode, uint8_t value, uint32_t mask);
    void (*mma)(struct Env *, int at, const uint32_t *a, const uint32_t *b, float *c);
    void (*outside)(struct Env *, uint32_t address);
    // The piece of the card's memory that was last used, and how another one is found.
    uint64_t least, end;
    void (*find)(struct Env *, uint64_t address);
};
// Where an argument lies among all of them.
struct Field { int at, bytes; };
// `waits` says whether its threads wait for each other, `shared` how much shared memory it has of its own.
struct Kernel { void (*run)(struct Env *); int waits, shared, fields, bytes; const struct Field *field; };

// Of the driver and the emulator.
int card_do(void (*run)(void *), const void *data, size_t bytes);
void card_memory_is(uint64_t address, size_t bytes);
void card_run(const struct Kernel *kernel, const char *name, const uint32_t grid[3], const uint32_t block[3],
              uint32_t shared, char *arguments);

// Addresses that a card would refuse are refused.
#define UNALIGNED 0xffffffffu
#define IN(at) (in_shared(e, (uint32_t)(at)))
#define ALIGNED(at, bytes) do { if ((uint64_t)(at) % (bytes)) e->outside(e, UNALIGNED); } while (0)
static inline uint32_t in_shared(struct Env *e, uint32_t at) { if (at >= e->shared_bytes) e->outside(e, at); return at; }
static inline char *in_global(struct Env *e, char *at, uint32_t bytes) {
    if ((uint64_t)at < e->least || (uint64_t)at + bytes > e->end) e->find(e, (uint64_t)at);
    return at;
}
static inline float u2f(uint32_t x) { float y; memcpy(&y, &x, 4); return y; }
static inline uint32_t f2u(float x) { uint32_t y; memcpy(&y, &x, 4); return y; }
static inline double u2d(uint64_t x) { double y; memcpy(&y, &x, 8); return y; }
static inline uint64_t d2u(double x) { uint64_t y; memcpy(&y, &x, 8); return y; }
static inline float b2f(uint16_t x) { return u2f((uint32_t)x << 16); }
static inline uint16_t f2b(float x) {
    if (x != x) return 0x7fff;
    uint32_t bits = f2u(x);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
static inline float h2f(uint16_t x) { _Float16 y; memcpy(&y, &x, 2); return (float)y; }
static inline uint16_t f2h(float x) { _Float16 y = (_Float16)x; uint16_t z; memcpy(&z, &y, 2); return z; }
static inline float sat(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
static inline float fma_rm(float a, float b, float c) {
    double d = (double)a * b + c;
    float f = (float)d;
    return f > d ? nextafterf(f, -INFINITY) : f;
}
static inline uint32_t bfi32(uint32_t a, uint32_t b, uint32_t at, uint32_t n) {
    at &= 255; n &= 255;
    for (uint32_t i = 0; i < n && at + i < 32; i++) b = (b & ~(1u << (at + i))) | ((i < 32 ? (a >> i) & 1u : 0) << (at + i));
    return b;
}
static inline uint64_t bfi64(uint64_t a, uint64_t b, uint32_t at, uint32_t n) {
    at &= 255; n &= 255;
    for (uint32_t i = 0; i < n && at + i < 64; i++) b = (b & ~(1ull << (at + i))) | (((a >> i) & 1ull) << (at + i));
    return b;
}
static inline uint32_t bfe_u32(uint32_t a, uint32_t at, uint32_t n) {
    at &= 255; n &= 255;
    if (at >= 32 || !n) return 0;
    a >>= at;
    return n >= 32 ? a : a & ((1u << n) - 1);
}
static inline uint64_t bfe_u64(uint64_t a, uint32_t at, uint32_t n) {
    at &= 255; n &= 255;
    if (at >= 64 || !n) return 0;
    a >>= at;
    return n >= 64 ? a : a & ((1ull << n) - 1);
}
static inline uint32_t prmt(uint32_t a, uint32_t b, uint32_t select) {
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t found = 0;
    for (int n = 0; n < 4; n++) {
        uint32_t s = select >> (4 * n) & 15;
        uint32_t byte = (both >> (8 * (s & 7))) & 255;
        if (s & 8) byte = byte & 128 ? 255 : 0;
        found |= byte << (8 * n);
    }
    return found;
}
static inline uint32_t brev32(uint32_t x) { uint32_t y = 0; for (int n = 0; n < 32; n++) y |= ((x >> n) & 1u) << (31 - n); return y; }
#define OF(name, type, least, most) static inline type name(double x) { return x != x ? 0 : x <= least ? (type)least : x >= most ? (type)most : (type)x; }
OF(s32_of, int32_t, -2147483648.0, 2147483647.0)
OF(u32_of, uint32_t, 0.0, 4294967295.0)
OF(s16_of, int16_t, -32768.0, 32767.0)
OF(u16_of, uint16_t, 0.0, 65535.0)
OF(s8_of, int8_t, -128.0, 127.0)
OF(u8_of, uint8_t, 0.0, 255.0)
static inline int64_t s64_of(double x) { return x != x ? INT64_MIN : x <= -9223372036854775808.0 ? INT64_MIN : x >= 9223372036854775807.0 ? INT64_MAX : (int64_t)x; }
static inline uint64_t u64_of(double x) { return x != x ? 0 : x <= 0 ? 0 : x >= 18446744073709551615.0 ? UINT64_MAX : (uint64_t)x; }
