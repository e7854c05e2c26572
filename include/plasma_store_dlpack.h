/* The DLPack structures that plasma_store.h hands out, for programs that have no <dlpack/dlpack.h> of their own.
 *
 * DLPack (https://dmlc.github.io/dlpack) is the layout in which array libraries pass each other tensors. The declarations
 * below follow its published layout, version 1.3, in our own words, and hold what a tensor in host memory needs; the
 * exchange table for Python extension types is left out. The include guard is the official one, so whichever DLPack header
 * is included first wins and the other one adds nothing: programs that need more than this include theirs before
 * plasma_store.h, or have it on the include path as <dlpack/dlpack.h>.
 *
 * tests/c_api.rs compares every size and offset here with the structures that the library is compiled with.
 */
#ifndef DLPACK_DLPACK_H_
#define DLPACK_DLPACK_H_

#include <stddef.h>
#include <stdint.h>

#define DLPACK_MAJOR_VERSION 1
#define DLPACK_MINOR_VERSION 3

/* Bits of DLManagedTensorVersioned.flags. */
#define DLPACK_FLAG_BITMASK_READ_ONLY (1UL << 0UL)
#define DLPACK_FLAG_BITMASK_IS_COPIED (1UL << 1UL)
#define DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED (1UL << 2UL)

#ifdef __cplusplus
extern "C" {
#endif

/* The version a DLManagedTensorVersioned was made for. Another major number means another layout: all that may be done
 * with such a tensor is to call its deleter. */
typedef struct {
  uint32_t major;
  uint32_t minor;
} DLPackVersion;

/* Where a tensor's memory is. This library stores kDLCPU and nothing else. 32 bits wide in C++ too. */
#ifdef __cplusplus
typedef enum : int32_t {
#else
typedef enum {
#endif
  kDLCPU = 1,
  kDLCUDA = 2,
  kDLCUDAHost = 3,
  kDLOpenCL = 4,
  kDLVulkan = 7,
  kDLMetal = 8,
  kDLVPI = 9,
  kDLROCM = 10,
  kDLROCMHost = 11,
  kDLExtDev = 12,
  kDLCUDAManaged = 13,
  kDLOneAPI = 14,
  kDLWebGPU = 15,
  kDLHexagon = 16,
  kDLMAIA = 17,
  kDLTrn = 18,
  kDLTPU = 19,
  kDLTPUHost = 20
} DLDeviceType;

/* One device: its kind, and which one of them (0 for the CPU). */
typedef struct {
  DLDeviceType device_type;
  int32_t device_id;
} DLDevice;

/* What DLDataType.code says. */
typedef enum {
  kDLInt = 0U,
  kDLUInt = 1U,
  kDLFloat = 2U,
  kDLOpaqueHandle = 3U,
  kDLBfloat = 4U,
  kDLComplex = 5U,
  kDLBool = 6U,
  kDLFloat8_e3m4 = 7U,
  kDLFloat8_e4m3 = 8U,
  kDLFloat8_e4m3b11fnuz = 9U,
  kDLFloat8_e4m3fn = 10U,
  kDLFloat8_e4m3fnuz = 11U,
  kDLFloat8_e5m2 = 12U,
  kDLFloat8_e5m2fnuz = 13U,
  kDLFloat8_e8m0fnu = 14U,
  kDLFloat6_e2m3fn = 15U,
  kDLFloat6_e3m2fn = 16U,
  kDLFloat4_e2m1fn = 17U,
  kDLBcomplex = 18U
} DLDataTypeCode;

/* The type of one element: float32 is {kDLFloat, 32, 1}. */
typedef struct {
  uint8_t code;   /* a DLDataTypeCode */
  uint8_t bits;   /* of one lane */
  uint16_t lanes; /* 1, except for vector types */
} DLDataType;

/* A tensor that owns nothing. Element (i, j, ...) lies at
 * data + byte_offset + (i * strides[0] + j * strides[1] + ...) * bytes per element. */
typedef struct {
  void *data;
  DLDevice device;
  int32_t ndim;    /* 0: a single number */
  DLDataType dtype;
  int64_t *shape;  /* ndim entries */
  int64_t *strides; /* ndim entries, in elements; NULL (before DLPack 1.2): row-major without gaps */
  uint64_t byte_offset;
} DLTensor;

/* A tensor and the duty to let go of it: whoever holds it calls deleter(self) once, when done, from any thread. */
typedef struct DLManagedTensor {
  DLTensor dl_tensor;
  void *manager_ctx; /* the maker's own */
  void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

/* The same since DLPack 1.0, with a version to check first, and flags that say, for one, that the data is read-only. */
typedef struct DLManagedTensorVersioned {
  DLPackVersion version;
  void *manager_ctx; /* the maker's own */
  void (*deleter)(struct DLManagedTensorVersioned *self);
  uint64_t flags;    /* DLPACK_FLAG_BITMASK_... */
  DLTensor dl_tensor;
} DLManagedTensorVersioned;

#ifdef __cplusplus
}
#endif

#endif /* DLPACK_DLPACK_H_ */
