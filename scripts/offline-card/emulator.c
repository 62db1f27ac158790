// Runs a kernel: blocks beside each other on the processors, the threads of a block in turns. A thread runs until it
// waits for others of its block or warp; when all wait, those whose others have come are served. A wait that nobody can
// end stops the program, as does an address outside of memory.
//
// Threads take turns in the order of their numbers; CARD_ORDER=1 turns it around, and any higher number begins each turn
// at a thread drawn from it: where a kernel forgets to wait, these give other results.

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

#include "kernel.h"

enum { READY, DONE, AT_BARRIER, AT_WARP, AT_MASK };
enum { SHUFFLE, VOTE, MMA, SYNC };
enum { STACK = 65536, MOST_THREADS = 1024, MOST_SHARED = 262144, MOST_RANGES = 1 << 16 };

// The card's memory.
static struct { uint64_t at; size_t bytes; } ranges[MOST_RANGES];
static int range_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void card_memory_is(uint64_t address, size_t bytes) {
    pthread_mutex_lock(&lock);
    ranges[range_count].at = address;
    ranges[range_count++].bytes = bytes;
    if (range_count == MOST_RANGES) abort();
    pthread_mutex_unlock(&lock);
}

struct Thread {
    struct Env env;
    void *sp;
    struct Block *block;
    int state, place, what, mode;
    uint32_t mask, value, lane, clamp, got;
    uint8_t in;
    const uint32_t *a, *b;
    float *c;
};
struct Block {
    const struct Kernel *kernel;
    const char *name;
    void *sp;
    struct Thread *threads;
    char *stacks, *shared;
    int count;
};
static __thread struct Block local;

// From one stack to another: registers that a function keeps are pushed, the stack is changed, and they are popped.
void emu_switch(void **from, void *to);
__asm__(".text\n.globl emu_switch\nemu_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
void emu_start(void);
__asm__(".text\n.globl emu_start\nemu_start:\nmov %r12, %rdi\ncall *%r13\nud2\n");

static void stop(struct Env *e, const char *why) {
    struct Thread *t = (struct Thread *)e;
    fprintf(stderr, "offline card: %s, block %u,%u,%u, thread %u,%u,%u: %s\n", local.name, e->ctaid[0], e->ctaid[1],
            e->ctaid[2], e->tid[0], e->tid[1], e->tid[2], why);
    abort();
}
static void trap(struct Env *e) { stop(e, "trap"); }
static void outside(struct Env *e, uint32_t at) {
    char text[100];
    if (at == UNALIGNED) stop(e, "an address that is not aligned");
    snprintf(text, sizeof text, "shared memory at %u of %u", at, e->shared_bytes);
    stop(e, text);
}
static void find(struct Env *e, uint64_t at) {
    for (int n = 0; n < range_count; n++)
        if (at >= ranges[n].at && at < ranges[n].at + ranges[n].bytes) {
            e->least = ranges[n].at;
            e->end = ranges[n].at + ranges[n].bytes;
            return;
        }
    char text[100];
    snprintf(text, sizeof text, "no memory of the card at %lx", at);
    stop(e, text);
}
static void wait_(struct Thread *t, int state, int place) {
    t->state = state;
    t->place = place;
    emu_switch(&t->sp, local.sp);
}
static void barrier(struct Env *e, int at) { wait_((struct Thread *)e, AT_BARRIER, at); }
static uint32_t activemask(struct Env *e, int at) {
    struct Thread *t = (struct Thread *)e;
    wait_(t, AT_MASK, at);
    return t->got;
}
static void at_warp(struct Thread *t, int what, int at, uint32_t mask) {
    t->what = what;
    t->mask = mask;
    if (!(mask >> t->env.lane & 1)) stop(&t->env, "a lane that is not in its own mask");
    wait_(t, AT_WARP, at);
}
static void warp_sync(struct Env *e, int at, uint32_t mask) { at_warp((struct Thread *)e, SYNC, at, mask); }
static uint32_t shuffle(struct Env *e, int at, int mode, uint32_t value, uint32_t lane, uint32_t clamp, uint32_t mask,
                        uint8_t *in) {
    struct Thread *t = (struct Thread *)e;
    t->mode = mode; t->value = value; t->lane = lane; t->clamp = clamp;
    at_warp(t, SHUFFLE, at, mask);
    *in = t->in;
    return t->got;
}
static uint32_t vote(struct Env *e, int at, int mode, uint8_t value, uint32_t mask) {
    struct Thread *t = (struct Thread *)e;
    t->mode = mode; t->value = value;
    at_warp(t, VOTE, at, mask);
    return t->got;
}
static void mma(struct Env *e, int at, const uint32_t *a, const uint32_t *b, float *c) {
    struct Thread *t = (struct Thread *)e;
    t->a = a; t->b = b; t->c = c;
    at_warp(t, MMA, at, 0xffffffffu);
}
static void body(struct Thread *t) {
    local.kernel->run(&t->env);
    t->state = DONE;
    emu_switch(&t->sp, local.sp);
}

// mma.m16n8k16 of bf16 with sums in f32: a lane holds eight numbers of the first factor, four of the second and four
// of the sums, as the manual of PTX draws them. All are added up in f64 and rounded once.
static void multiply(struct Thread *w) {
    float A[16][16], B[16][8], C[16][8];
    for (int lane = 0; lane < 32; lane++) {
        int g = lane >> 2, q = (lane & 3) * 2;
        for (int n = 0; n < 4; n++)
            for (int h = 0; h < 2; h++) A[g + 8 * (n & 1)][q + 8 * (n >> 1) + h] = b2f(w[lane].a[n] >> (16 * h));
        for (int n = 0; n < 2; n++)
            for (int h = 0; h < 2; h++) B[q + 8 * n + h][g] = b2f(w[lane].b[n] >> (16 * h));
        for (int n = 0; n < 4; n++) C[g + 8 * (n >> 1)][q + (n & 1)] = w[lane].c[n];
    }
    for (int row = 0; row < 16; row++)
        for (int col = 0; col < 8; col++) {
            double sum = C[row][col];
            for (int k = 0; k < 16; k++) sum += (double)A[row][k] * B[k][col];
            C[row][col] = sum;
        }
    for (int lane = 0; lane < 32; lane++) {
        int g = lane >> 2, q = (lane & 3) * 2;
        for (int n = 0; n < 4; n++) w[lane].c[n] = C[g + 8 * (n >> 1)][q + (n & 1)];
    }
}

// Serves the threads of a warp that wait for each other; how many were.
static int serve(struct Thread *w, int lanes) {
    int served = 0;
    uint32_t live = 0;
    for (int n = 0; n < lanes; n++) if (w[n].state != DONE) live |= 1u << n;
    for (int n = 0; n < lanes; n++) {
        if (w[n].state == AT_MASK) {
            uint32_t group = 0;
            for (int m = n; m < lanes; m++) if (w[m].state == AT_MASK && w[m].place == w[n].place) group |= 1u << m;
            for (int m = n; m < lanes; m++) if (group >> m & 1) { w[m].got = group; w[m].state = READY; served++; }
        } else if (w[n].state == AT_WARP) {
            uint32_t mask = w[n].mask & (lanes == 32 ? 0xffffffffu : (1u << lanes) - 1), there = 0;
            if (w[n].what == MMA && (live != 0xffffffffu || lanes != 32)) stop(&w[n].env, "mma of a warp that is not whole");
            mask &= live;
            for (int m = 0; m < lanes; m++) if (w[m].state == AT_WARP && w[m].place == w[n].place && w[m].mask == w[n].mask) there |= 1u << m;
            if ((there & mask) != mask) continue;
            if (w[n].what == MMA) multiply(w);
            uint32_t ballot = 0;
            for (int m = 0; m < lanes; m++) if (mask >> m & 1 && w[m].value) ballot |= 1u << m;
            for (int m = 0; m < lanes; m++) {
                struct Thread *t = &w[m];
                if (!(mask >> m & 1)) continue;
                if (t->what == SHUFFLE) {
                    uint32_t segment = t->clamp >> 8 & 31, most = (m & segment) | (t->clamp & 31 & ~segment), least = m & segment;
                    int from = t->mode == 0 ? m - (int)(t->lane & 31) : t->mode == 1 ? m + (int)(t->lane & 31) : t->mode == 2 ? m ^ (int)(t->lane & 31) : (int)(least | (t->lane & 31 & ~segment));
                    t->in = t->mode == 0 ? from >= (int)most : from <= (int)most;
                    if (!t->in) from = m;
                    if (!(mask >> from & 1)) stop(&t->env, "a value of a lane that is not in the mask");
                    t->got = w[from].value;
                } else if (t->what == VOTE) {
                    t->got = t->mode == 0 ? ballot == mask : t->mode == 1 ? ballot != 0 : t->mode == 2 ? ballot == 0 || ballot == mask : ballot;
                }
            }
            for (int m = 0; m < lanes; m++) if (mask >> m & 1) { w[m].state = READY; served++; }
        }
    }
    return served;
}

static int order_asked(void) {
    static int order = -1;
    if (order < 0) order = getenv("CARD_ORDER") ? atoi(getenv("CARD_ORDER")) : 0;
    return order;
}

static void block_run(const struct Kernel *kernel, const char *name, const uint32_t grid[3], const uint32_t size[3], uint32_t shared,
                      char *params, uint32_t number) {
    struct Block *b = &local;
    int count = size[0] * size[1] * size[2];
    if (!b->threads) {
        b->threads = calloc(MOST_THREADS, sizeof *b->threads);
        b->shared = aligned_alloc(1024, MOST_SHARED);
        b->stacks = mmap(0, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    b->kernel = kernel;
    b->name = name;
    b->count = count;
    uint32_t bytes = kernel->shared + shared;
    memset(b->shared, 0xff, bytes); // NaN until it is written
    for (int n = 0; n < count; n++) {
        struct Env *e = &b->threads[n].env;
        *e = (struct Env){
            {n % size[0], n / size[0] % size[1], n / size[0] / size[1]}, {size[0], size[1], size[2]},
            {number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]}, {grid[0], grid[1], grid[2]},
            n % 32, n / 32, params, b->shared, bytes, trap, barrier, warp_sync, activemask, shuffle, vote, mma, outside, 0, 0, find};
    }
    int order = order_asked();
    if (!kernel->waits) {
        for (int n = 0; n < count; n++) kernel->run(&b->threads[order == 1 ? count - 1 - n : n].env);
        return;
    }
    for (int n = 0; n < count; n++) {
        struct Thread *t = &b->threads[n];
        t->state = READY;
        void **top = (void **)(b->stacks + (n + 1l) * STACK);
        // Aligned as a function expects it: emu_start calls.
        top -= 2;
        *--top = (void *)emu_start;
        *--top = 0;              // rbp
        *--top = 0;              // rbx
        *--top = t;              // r12
        *--top = (void *)body;   // r13
        *--top = 0;              // r14
        *--top = 0;              // r15
        t->sp = top;
    }
    uint32_t random = number * 2654435761u + order;
    for (;;) {
        int first = order > 1 ? (random = random * 1664525u + 1013904223u) >> 8 : 0;
        for (int n = 0; n < count; n++) {
            int at = order == 1 ? count - 1 - n : (n + first) % count;
            struct Thread *t = &b->threads[at];
            if (t->state == READY) emu_switch(&b->sp, t->sp);
        }
        int served = 0, waiting = 0, done = 0;
        for (int n = 0; n < count; n += 32) served += serve(b->threads + n, count - n < 32 ? count - n : 32);
        if (served) continue;
        int place = -1;
        for (int n = 0; n < count; n++) {
            done += b->threads[n].state == DONE;
            if (b->threads[n].state == AT_BARRIER) {
                waiting++;
                if (place >= 0 && place != b->threads[n].place) stop(&b->threads[n].env, "threads of a block wait at two barriers");
                place = b->threads[n].place;
            }
        }
        if (done == count) return;
        if (waiting + done < count || !waiting) {
            for (int n = 0; n < count; n++) if (b->threads[n].state == AT_WARP) stop(&b->threads[n].env, "waits for lanes that do not come");
            stop(&b->threads[0].env, "nobody can go on");
        }
        for (int n = 0; n < count; n++) if (b->threads[n].state == AT_BARRIER) b->threads[n].state = READY;
    }
}

void card_run(const struct Kernel *kernel, const char *name, const uint32_t grid[3], const uint32_t size[3],
              uint32_t shared, char *arguments) {
    long blocks = (long)grid[0] * grid[1] * grid[2];
    #pragma omp parallel for schedule(dynamic) if (blocks > 3)
    for (long n = 0; n < blocks; n++) block_run(kernel, name, grid, size, shared, arguments, n);
}
