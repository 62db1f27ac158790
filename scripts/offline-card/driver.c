// A driver without a card, for machines that have none: what CubeCL asks of CUDA is answered, kernels are
// really compiled (NVRTC), copies are made, and a launch runs the kernel on the host: its PTX is translated
// to C (translate.py) and its threads are run in turns (emulator.c). Recorded graphs are run when they are
// launched. It names itself as an H200, so that kernels are those of compute capability 9.0.
//
// What it tells: whether the path to a card gives the right numbers, waits of threads for each other
// included, and whether kernels stay inside their memory. What nobody wrote is NaN. What it cannot tell:
// anything about time, or about what runs beside each other on a card: here all comes in order.
//
// With CARD_COMPUTES=0 a launch does nothing, kernels are assembled (ptxas), and what they should have
// written stays zero: that tells, for models of any size, whether the path runs through without a panic,
// how many kernels a step launches, how long they take to compile, and what the host spends.
//
// It is found as libnvcuda.so: NVRTC itself looks for libcuda.so and would call it.
//
// CARD_TRACE=1 prints each launch; those that are recorded into a graph have a star. CARD_READS=0 or
// =1, where launches do nothing: what the host reads is that number, for callers that refuse what lies there.

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"

typedef int Result;
typedef void *Handle;
typedef unsigned long long Address;

enum { OK = 0, INVALID_VALUE = 1, NO_SUCH_DEVICE = 101, LINK_FAILED = 218, NOT_SUPPORTED = 801 };

#define MEMORY 150110011392ULL
// What a launch takes by the clock of events: kernels cannot be told apart by it.
#define LAUNCH_MS 0.02

// How much of new memory is filled with NaN.
#define FILLED (64 << 20)
// What a translated kernel begins with where CUDA has machine code: the path of its library.
#define MARK "translated:"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long launches, recorded, assembled, replays;
static double clock_ms, assembling_s;
static int is_recording;
static size_t held, most_held;

static void tell(void) {
    fprintf(stderr, "offline card: at most %.2f GB of its memory held\n", most_held / 1e9);
    fprintf(stderr, "offline card: %ld launches, %ld of them recorded, %ld replays; %ld kernels assembled in %.1f s\n",
            launches, recorded, replays, assembled, assembling_s);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static int computes(void) {
    static int known = -1;
    if (known < 0) known = !getenv("CARD_COMPUTES") || strcmp(getenv("CARD_COMPUTES"), "0");
    return known;
}

static Handle something(void) { return calloc(1, sizeof(double)); }

// Addresses without memory behind them until they are written.
static void *room(size_t bytes) {
    void *start = mmap(0, bytes ? bytes : 1, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? NULL : start;
}

// What a stream does: at once, or when the graph is launched that it is recorded into.
struct Node { void (*run)(void *); void *data; struct Node *next; };
struct Graph { struct Node *first, **end; };
static struct Graph *recording;

Result card_do(void (*run)(void *), const void *data, size_t bytes) {
    void *copy = aligned_alloc(16, (bytes + 15) / 16 * 16);
    memcpy(copy, data, bytes);
    if (!is_recording) {
        run(copy);
        free(copy);
        return OK;
    }
    struct Node *node = malloc(sizeof *node);
    *node = (struct Node){run, copy, NULL};
    *recording->end = node;
    recording->end = &node->next;
    return OK;
}

// The driver and its one card.
Result cuInit(unsigned flags) {
    static int told;
    pthread_mutex_lock(&lock);
    if (!told++) atexit(tell);
    pthread_mutex_unlock(&lock);
    return OK;
}
Result cuDriverGetVersion(int *version) { *version = 13000; return OK; }
Result cuDeviceGetCount(int *count) { *count = 1; return OK; }
Result cuDeviceGet(int *device, int index) { *device = 0; return index ? NO_SUCH_DEVICE : OK; }
Result cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "NVIDIA H200"); return OK; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = MEMORY; return OK; }
Result cuDeviceGetUuid(char *id, int device) { memset(id, 1, 16); return OK; }
Result cuDeviceGetUuid_v2(char *id, int device) { return cuDeviceGetUuid(id, device); }
Result cuDeviceGetLuid(char *id, unsigned *mask, int device) { return NOT_SUPPORTED; }
Result cuDeviceGetPCIBusId(char *text, int length, int device) { snprintf(text, length, "0000:00:00.0"); return OK; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;      // threads of a block, x and y
    case 4: *value = 64; break;                         // z
    case 5: *value = 2147483647; break;                 // blocks of a grid, x
    case 6: case 7: *value = 65535; break;              // y and z
    case 8: *value = 49152; break;                      // shared memory of a block
    case 10: *value = 32; break;                        // threads of a warp
    case 12: *value = 65536; break;                     // registers of a block
    case 16: *value = 132; break;                       // multiprocessors
    case 38: *value = 62914560; break;                  // level 2 cache
    case 39: *value = 2048; break;                      // threads of a multiprocessor
    case 75: *value = 9; break;                         // compute capability
    case 81: *value = 233472; break;                    // shared memory of a multiprocessor
    case 97: *value = 232448; break;                    // shared memory that a block may ask for
    case 115: *value = 1; break;                        // memory pools
    default: *value = 0;
    }
    return OK;
}
Result cuDevicePrimaryCtxRetain(Handle *context, int device) { *context = (Handle)1; return OK; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
Result cuCtxSetCurrent(Handle context) { return OK; }
Result cuCtxGetCurrent(Handle *context) { *context = (Handle)1; return OK; }
Result cuCtxSynchronize(void) { return OK; }
Result cuCtxGetStreamPriorityRange(int *least, int *most) { *least = 0; *most = -5; return OK; }
Result cuGetErrorName(Result error, const char **text) { *text = "OFFLINE"; return OK; }
Result cuGetErrorString(Result error, const char **text) { *text = "the offline card refused"; return OK; }

// Streams and events.
Result cuStreamCreate(Handle *stream, unsigned flags) { *stream = something(); return OK; }
Result cuStreamCreateWithPriority(Handle *stream, unsigned flags, int priority) { *stream = something(); return OK; }
Result cuStreamDestroy_v2(Handle stream) { free(stream); return OK; }
Result cuStreamSynchronize(Handle stream) { return OK; }
Result cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) { return OK; }
Result cuStreamIsCapturing(Handle stream, int *status) { *status = is_recording; return OK; }
Result cuEventCreate(Handle *event, unsigned flags) { *event = something(); return OK; }
Result cuEventDestroy_v2(Handle event) { free(event); return OK; }
Result cuEventRecord(Handle event, Handle stream) { *(double *)event = clock_ms; return OK; }
Result cuEventSynchronize(Handle event) { return OK; }
Result cuEventQuery(Handle event) { return OK; }
Result cuEventElapsedTime(float *ms, Handle from, Handle to) {
    *ms = (float)(*(double *)to - *(double *)from) + 1e-3f;
    return OK;
}
Result cuEventElapsedTime_v2(float *ms, Handle from, Handle to) { return cuEventElapsedTime(ms, from, to); }
Result cuLaunchHostFunc(Handle stream, void (*function)(void *), void *data) { function(data); return OK; }

// Memory.
struct Held { Address address; size_t bytes; struct Held *next; };
static struct Held *all_held;
Result cuMemAlloc_v2(Address *address, size_t bytes) {
    *address = (Address)room(bytes);
    if (!*address) return INVALID_VALUE;
    struct Held *entry = malloc(sizeof *entry);
    pthread_mutex_lock(&lock);
    *entry = (struct Held){*address, bytes, all_held};
    all_held = entry;
    held += bytes;
    if (held > most_held) most_held = held;
    pthread_mutex_unlock(&lock);
    if (computes()) memset((void *)(size_t)*address, 0xff, bytes < FILLED ? bytes : FILLED);
    card_memory_is(*address, bytes);
    return OK;
}
Result cuMemAllocAsync(Address *address, size_t bytes, Handle stream) { return cuMemAlloc_v2(address, bytes); }
// Addresses are not given away again: what reads there later is told apart.
Result cuMemFree_v2(Address address) {
    pthread_mutex_lock(&lock);
    for (struct Held **at = &all_held; *at; at = &(*at)->next) {
        struct Held *entry = *at;
        if (entry->address != address) continue;
        held -= entry->bytes;
        *at = entry->next;
        free(entry);
        break;
    }
    pthread_mutex_unlock(&lock);
    return OK;
}
Result cuMemFreeAsync(Address address, Handle stream) { return cuMemFree_v2(address); }
Result cuMemAllocHost_v2(void **start, size_t bytes) { *start = room(bytes); return OK; }
Result cuMemHostAlloc(void **start, size_t bytes, unsigned flags) { *start = room(bytes); return OK; }
Result cuMemFreeHost(void *start) { return OK; }
Result cuMemGetInfo_v2(size_t *free, size_t *total) { *free = *total = MEMORY; return OK; }
static void *host(Address address) { return (void *)(size_t)address; }
struct Copy { void *to; const void *from; size_t bytes; };
static void copy_now(void *data) { struct Copy *c = data; memmove(c->to, c->from, c->bytes); }
static Result copy(void *to, const void *from, size_t bytes) {
    struct Copy c = {to, from, bytes};
    return card_do(copy_now, &c, sizeof c);
}
struct Fill { void *at; size_t bytes; int value; };
static void fill_now(void *data) { struct Fill *f = data; memset(f->at, f->value, f->bytes); }

// What the host reads; CARD_READS has it read the same number of f32 everywhere.
static Result read_back(void *to, const void *from, size_t bytes) {
    const char *asked = getenv("CARD_READS");
    if (!asked || computes()) return copy(to, from, bytes);
    const float value = atof(asked);
    for (size_t at = 0; at + sizeof value <= bytes; at += sizeof value) memcpy((char *)to + at, &value, sizeof value);
    return OK;
}

// Weights are of no use where launches do nothing, and more than this machine's memory.
static Result send(Address to, const void *from, size_t bytes) {
    return !computes() && bytes > (1 << 20) ? OK : copy(host(to), from, bytes);
}
Result cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) { return send(to, from, bytes); }
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Handle stream) { return send(to, from, bytes); }
Result cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) { return read_back(to, host(from), bytes); }
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Handle stream) { return read_back(to, host(from), bytes); }
Result cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) { return copy(host(to), host(from), bytes); }
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Handle stream) { return copy(host(to), host(from), bytes); }
Result cuMemcpyPeerAsync(Address to, Handle a, Address from, Handle b, size_t bytes, Handle stream) { return OK; }
Result cuMemsetD8_v2(Address address, unsigned char value, size_t bytes) {
    struct Fill f = {host(address), bytes, value};
    return card_do(fill_now, &f, sizeof f);
}
Result cuMemsetD8Async(Address address, unsigned char value, size_t bytes, Handle stream) { return cuMemsetD8_v2(address, value, bytes); }

// A copy of rows.
struct Rows {
    size_t from_x, from_y; int from_type; const void *from_host; Address from; Handle from_array; size_t from_pitch;
    size_t to_x, to_y; int to_type; char *to_host; Address to; Handle to_array; size_t to_pitch;
    size_t width, height;
};
Result cuMemcpy2DAsync_v2(const struct Rows *rows, Handle stream) {
    // The first product of a device, by which it is known to compute, where nothing does.
    static const float product[2][2] = {{7, 10}, {15, 22}};
    for (size_t row = 0; row < rows->height; row++) {
        const char *from = rows->from_type == 1 ? rows->from_host : host(rows->from);
        char *to = rows->to_type == 1 ? rows->to_host : host(rows->to);
        from += (rows->from_y + row) * rows->from_pitch + rows->from_x;
        to += (rows->to_y + row) * rows->to_pitch + rows->to_x;
        (rows->to_type == 1 ? read_back : copy)(to, from, rows->width);
        int asked = !computes() && rows->to_type == 1 && rows->height == 2 && rows->width == sizeof product[0];
        if (asked) memcpy(to, product[row], rows->width);
    }
    return OK;
}

// Kernels.
struct Function { const char *name; const struct Kernel *kernel; unsigned shared; };
struct Launch { const struct Function *function; unsigned grid[3], block[3], shared; char arguments[4096] __attribute__((aligned(16))); };

Result cuModuleLoadData(Handle *module, const void *image) {
    if (!computes()) { *module = something(); return OK; }
    const char *path = (const char *)image + strlen(MARK);
    if (!strncmp(image, MARK, strlen(MARK))) *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    else fprintf(stderr, "offline card: machine code of another run, delete its kernel cache\n");
    return *module ? OK : INVALID_VALUE;
}
Result cuModuleLoadDataEx(Handle *module, const void *image, unsigned count, int *options, void **values) {
    return cuModuleLoadData(module, image);
}
Result cuModuleUnload(Handle module) { return OK; }
Result cuModuleGetFunction(Handle *function, Handle module, const char *name) {
    char symbol[2048];
    struct Function *made = malloc(sizeof *made);
    snprintf(symbol, sizeof symbol, "kernel_%s", name);
    *made = (struct Function){strdup(name), computes() ? dlsym(module, symbol) : NULL, 49152};
    *function = made;
    return computes() && !made->kernel ? INVALID_VALUE : OK;
}
Result cuModuleGetGlobal_v2(Address *address, size_t *bytes, Handle module, const char *name) { return INVALID_VALUE; }
Result cuFuncSetAttribute(Handle function, int attribute, int value) {
    if (attribute == 8) ((struct Function *)function)->shared = value; // shared memory that a launch may ask for
    return attribute == 8 && value > 232448 ? INVALID_VALUE : OK;
}
static void launch_now(void *data) {
    struct Launch *l = data;
    card_run(l->function->kernel, l->function->name, l->grid, l->block, l->shared, l->arguments);
}
Result cuFuncGetAttribute(int *value, int attribute, Handle function) { *value = 0; return OK; }
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, Handle function, int threads, size_t shared) {
    *count = 2;
    return OK;
}
Result cuTensorMapEncodeTiled(void *map, ...) { memset(map, 0, 128); return OK; }
Result cuTensorMapEncodeIm2col(void *map, ...) { memset(map, 0, 128); return OK; }
Result cuTensorMapEncodeIm2colWide(void *map, ...) { memset(map, 0, 128); return OK; }
Result cuLaunchKernel(Handle function, unsigned x, unsigned y, unsigned z, unsigned threads_x, unsigned threads_y,
                      unsigned threads_z, unsigned shared, Handle stream, void **arguments, void **extra) {
    pthread_mutex_lock(&lock);
    launches++;
    recorded += is_recording;
    clock_ms += LAUNCH_MS;
    pthread_mutex_unlock(&lock);
    const struct Function *f = function;
    if (getenv("CARD_TRACE"))
        fprintf(stderr, "launch%s %s %u,%u,%u x %u,%u,%u\n", is_recording ? "*" : "", f->name, x, y, z, threads_x,
                threads_y, threads_z);
    if (!computes()) return OK;
    struct Launch l = {f, {x, y, z}, {threads_x, threads_y, threads_z}, shared};
    if (shared > f->shared || threads_x * threads_y * threads_z > 1024 || f->kernel->bytes > (int)sizeof l.arguments) {
        fprintf(stderr, "offline card: %s cannot be launched\n", f->name);
        return INVALID_VALUE;
    }
    for (int n = 0; n < f->kernel->fields; n++)
        memcpy(l.arguments + f->kernel->field[n].at, arguments[n], f->kernel->field[n].bytes);
    return card_do(launch_now, &l, sizeof l);
}

// Graphs.
Result cuStreamBeginCapture_v2(Handle stream, int mode) {
    recording = malloc(sizeof *recording);
    *recording = (struct Graph){NULL, &recording->first};
    is_recording = 1;
    return OK;
}
Result cuStreamEndCapture(Handle stream, Handle *graph) { is_recording = 0; *graph = recording; return OK; }
Result cuGraphGetNodes(Handle graph, Handle *nodes, size_t *count) { *count = 0; return OK; }
Result cuGraphNodeGetType(Handle node, int *type) { *type = 0; return OK; }
// What is run is the graph itself, which goes with the run.
Result cuGraphDestroy(Handle graph) { return OK; }
Result cuGraphInstantiateWithFlags(Handle *run, Handle graph, unsigned long long flags) { *run = graph; return OK; }
Result cuGraphUpload(Handle run, Handle stream) { return OK; }
Result cuGraphLaunch(Handle run, Handle stream) {
    replays++;
    for (struct Node *node = ((struct Graph *)run)->first; node && computes(); node = node->next) node->run(node->data);
    return OK;
}
Result cuGraphExecDestroy(Handle run) {
    struct Node *node = ((struct Graph *)run)->first;
    while (node) {
        struct Node *next = node->next;
        free(node->data);
        free(node);
        node = next;
    }
    free(run);
    return OK;
}

// Translating, by translate.py and a C compiler; what was translated once is kept in the folder CARD_KERNELS.
static Result translate(const char *text, size_t length, void **code, size_t *bytes) {
    uint64_t hash = 14695981039346656037ull;
    for (size_t n = 0; n < length; n++) hash = (hash ^ (unsigned char)text[n]) * 1099511628211ull;
    char path[512], command[4096];
    snprintf(path, sizeof path, "%s/%016lx", getenv("CARD_KERNELS"), hash);
    snprintf(command, sizeof command, "%s.so", path);
    if (access(command, R_OK)) {
        snprintf(command, sizeof command, "%s.ptx", path);
        FILE *file = fopen(command, "w");
        int written = file && fwrite(text, 1, length, file) == length;
        if (file) fclose(file);
        // Without -lm's short cuts: products and sums are rounded one by one, as PTX says.
        snprintf(command, sizeof command,
                 "cd '%s' && python3 translate.py %s.ptx > %s.c && cc -O1 -march=native -ffp-contract=off "
                 "-fno-strict-aliasing -fwrapv -fno-math-errno -w -shared -fPIC -I. -o %s.part %s.c -lm && mv %s.part %s.so",
                 getenv("CARD_SOURCES"), path, path, path, path, path, path);
        if (!written || system(command)) return LINK_FAILED;
    }
    *bytes = 1024;
    *code = calloc(1, *bytes);
    snprintf(*code, *bytes, MARK "%s.so", path);
    return OK;
}

// Assembling, by the ptxas that the variable PTXAS names.
struct Link { char *text; size_t length; char *code; };
Result cuLinkCreate_v2(unsigned count, int *options, void **values, Handle *link) {
    *link = calloc(1, sizeof(struct Link));
    return OK;
}
Result cuLinkAddData_v2(Handle handle, int type, void *text, size_t length, const char *name, unsigned count,
                        int *options, void **values) {
    struct Link *link = handle;
    while (length && !((char *)text)[length - 1]) length--;
    link->text = malloc(length);
    link->length = length;
    memcpy(link->text, text, length);
    return OK;
}
Result cuLinkComplete(Handle handle, void **code, size_t *bytes) {
    struct Link *link = handle;
    const char *ptxas = getenv("PTXAS");
    char from[] = "/tmp/offline-card-XXXXXX", to[64], command[512];
    double began = now();
    if (computes()) {
        Result done = translate(link->text, link->length, (void **)&link->code, bytes);
        *code = link->code;
        assembled += done == OK;
        assembling_s += now() - began;
        return done;
    }
    int file = mkstemp(from);
    if (file < 0 || write(file, link->text, link->length) != (ssize_t)link->length) return LINK_FAILED;
    close(file);
    snprintf(to, sizeof to, "%s.cubin", from);
    snprintf(command, sizeof command, "%s -arch=sm_90a -o %s %s", ptxas ? ptxas : "ptxas", to, from);
    int failed = system(command);
    FILE *made = failed ? NULL : fopen(to, "rb");
    if (made) {
        fseek(made, 0, SEEK_END);
        *bytes = ftell(made);
        rewind(made);
        link->code = malloc(*bytes);
        failed = fread(link->code, 1, *bytes, made) != *bytes;
        fclose(made);
    }
    unlink(from);
    unlink(to);
    if (!made || failed) return LINK_FAILED;
    *code = link->code;
    pthread_mutex_lock(&lock);
    assembled++;
    assembling_s += now() - began;
    pthread_mutex_unlock(&lock);
    return OK;
}
Result cuLinkDestroy(Handle handle) {
    struct Link *link = handle;
    free(link->text);
    free(link->code);
    free(link);
    return OK;
}
