/* cuDNN of a card that is not there: every graph has a kernel, which needs no room and computes nothing.
 *
 * With it the calls of attention and what stands around them are run, and kernels of CubeCL are compiled for
 * them. What attention should have written is not there. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, WORKSPACE_SIZE = 402 };

size_t cudnnGetVersion(void) { return 91400; }

int cudnnCreate(void **handle) {
    *handle = malloc(1);
    return SUCCESS;
}

int cudnnSetStream(void *handle, void *stream) { return SUCCESS; }

int cudnnBackendCreateDescriptor(int kind, void **descriptor) {
    *descriptor = malloc(1);
    return SUCCESS;
}

int cudnnBackendDestroyDescriptor(void *descriptor) {
    free(descriptor);
    return SUCCESS;
}

int cudnnBackendSetAttribute(void *descriptor, int name, int type, int64_t count, const void *values) {
    return SUCCESS;
}

int cudnnBackendGetAttribute(void *descriptor, int name, int type, int64_t room, int64_t *count, void *values) {
    *count = 1;
    if (name == WORKSPACE_SIZE && room > 0)
        memset(values, 0, sizeof(int64_t));
    return SUCCESS;
}

int cudnnBackendFinalize(void *descriptor) { return SUCCESS; }

int cudnnBackendExecute(void *handle, void *plan, void *pack) { return SUCCESS; }
