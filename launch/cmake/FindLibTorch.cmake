# LibTorch::cpu, the CPU half of LibTorch, from $LIBTORCH, -DLIBTORCH=... or .deps/site/torch (launch/setup.sh).
# libtorch_cpu.so and libc10.so only; the CUDA run-time libraries that PyPI's wheel needs are found by its own RPATH.
set(LIBTORCH "$ENV{LIBTORCH}" CACHE PATH "folder with LibTorch's include/ and lib/")
if(NOT LIBTORCH)
  set(LIBTORCH_ROOT ${CMAKE_SOURCE_DIR}/.deps/site/torch)
else()
  set(LIBTORCH_ROOT ${LIBTORCH})
endif()
find_library(LibTorch_CPU_LIBRARY torch_cpu PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH NO_CACHE)
find_library(LibTorch_C10_LIBRARY c10 PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH NO_CACHE)
# at::parallel_for is a template over OpenMP: without -fopenmp it runs on one thread. LibTorch's own OpenMP runtime serves both.
find_file(LibTorch_OPENMP_LIBRARY NAMES libgomp.so.1 libgomp.so PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH NO_CACHE)
if(NOT LibTorch_OPENMP_LIBRARY)
  set(LibTorch_OPENMP_LIBRARY gomp)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY
  REASON_FAILURE_MESSAGE "run launch/setup.sh first, or set LIBTORCH to an unpacked LibTorch 2.11")
if(NOT TARGET LibTorch::cpu)
  add_library(LibTorch::cpu INTERFACE IMPORTED)
  target_include_directories(LibTorch::cpu SYSTEM INTERFACE ${LIBTORCH_ROOT}/include ${LIBTORCH_ROOT}/include/torch/csrc/api/include)
  target_compile_options(LibTorch::cpu INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
  target_link_libraries(LibTorch::cpu INTERFACE -Wl,--no-as-needed ${LibTorch_CPU_LIBRARY} ${LibTorch_C10_LIBRARY} -Wl,--as-needed
                        ${LibTorch_OPENMP_LIBRARY})
  target_link_options(LibTorch::cpu INTERFACE
    -Wl,-rpath,${LIBTORCH_ROOT}/lib -Wl,-rpath-link,${LIBTORCH_ROOT}/lib -Wl,-rpath-link,${LIBTORCH_ROOT}/../nvidia/cu13/lib)
endif()
