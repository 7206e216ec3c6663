# WASI with clang: wasi-sdk's ($WASI_SDK_PATH), else EXITLM_WASI_CLANG or clang
# of the PATH with the sysroot that $WASI_SYSROOT names, or with its own.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR wasm32)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EXITLM_WASI_CLANG EXITLM_WASI_SYSROOT)
set(EXITLM_WASI_SYSROOT "$ENV{WASI_SYSROOT}" CACHE PATH "WASI's headers and libraries; empty: those that clang finds itself")
if(DEFINED ENV{WASI_SDK_PATH})
  set(EXITLM_WASI_CLANG "$ENV{WASI_SDK_PATH}/bin/clang" CACHE FILEPATH "A clang for wasm32-wasi")
else()
  find_program(EXITLM_WASI_CLANG NAMES clang clang-22 REQUIRED)
endif()
set(CMAKE_C_COMPILER "${EXITLM_WASI_CLANG}")
set(CMAKE_C_COMPILER_TARGET wasm32-wasi)
if(EXITLM_WASI_SYSROOT)
  set(CMAKE_SYSROOT "${EXITLM_WASI_SYSROOT}")
endif()
set(CMAKE_C_FLAGS_INIT -Wno-deprecated) # Debian keeps wasi-libc under that name; clang would rather hear its newer one
set(CMAKE_EXE_LINKER_FLAGS_INIT --no-wasm-opt) # clang would run whatever wasm-opt is on the PATH
set(CMAKE_EXECUTABLE_SUFFIX .wasm)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
