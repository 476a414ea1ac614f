/*
 * hostmem.node: lays a file under a WebAssembly.Memory that exists, so that processes which map the file see the same bytes.
 * MIT; own code. V8 keeps a memory at one address as long as it does not grow, and does not mind what is mapped there; that
 * is no promise of V8's, so hostd proves it at each start (src/node/hostd/machine.ts).
 *
 *     map(view, fileDescriptor)      view: a Uint8Array of the whole memory, as long as the file
 *
 * The functions of Node-API that are used are declared here: no headers are needed, and the ABI is stable.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
extern int napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
extern int napi_get_typedarray_info(napi_env, napi_value, int *, size_t *, void **, napi_value *, size_t *);
extern int napi_get_value_int32(napi_env, napi_value, int32_t *);
extern int napi_throw_error(napi_env, const char *, const char *);
extern int napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
extern int napi_set_named_property(napi_env, napi_value, const char *, napi_value);

enum { PAGE = 4096, NAPI_OK = 0, NAPI_UINT8 = 1 };

static napi_value map(napi_env env, napi_callback_info info)
{
    napi_value argv[2], buffer;
    size_t argc = 2, length = 0, offset;
    void *base = NULL;
    int32_t fd;
    int type;
    if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != NAPI_OK || argc != 2 ||
        napi_get_typedarray_info(env, argv[0], &type, &length, &base, &buffer, &offset) != NAPI_OK || type != NAPI_UINT8 ||
        napi_get_value_int32(env, argv[1], &fd) != NAPI_OK) {
        napi_throw_error(env, "EINVAL", "map takes a Uint8Array and a file descriptor");
        return NULL;
    }
    if (!base || !length || ((uintptr_t)base | length) % PAGE) {
        napi_throw_error(env, "EINVAL", "map: not whole pages");
        return NULL;
    }
    if (mmap(base, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        napi_throw_error(env, "EIO", strerror(errno));
    return NULL;
}

__attribute__((visibility("default"))) int32_t node_api_module_get_api_version_v1(void) { return 8; }

__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
    napi_value function;
    if (napi_create_function(env, "map", SIZE_MAX, map, NULL, &function) == NAPI_OK)
        napi_set_named_property(env, exports, "map", function);
    return exports;
}
