# PyArrow::parquet, the C++ headers and libraries of Arrow and Parquet that PyPI's pyarrow wheel holds, from .deps/pyarrow (launch/setup.sh).
# Its libraries find each other by their own RPATH; whoever links them finds them there, or where a tree that was copied has them.
set(PyArrow_ROOT ${CMAKE_SOURCE_DIR}/.deps/pyarrow/pyarrow)
find_path(PyArrow_INCLUDE_DIR parquet/arrow/reader.h PATHS ${PyArrow_ROOT}/include NO_DEFAULT_PATH NO_CACHE)
file(GLOB PyArrow_LIBRARIES ${PyArrow_ROOT}/libparquet.so.* ${PyArrow_ROOT}/libarrow.so.*)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(PyArrow REQUIRED_VARS PyArrow_INCLUDE_DIR PyArrow_LIBRARIES
  REASON_FAILURE_MESSAGE "run launch/setup.sh, which brings it: without it .parquet and .arrow files cannot be read")
if(PyArrow_FOUND AND NOT TARGET PyArrow::parquet)
  add_library(PyArrow::parquet INTERFACE IMPORTED)
  target_include_directories(PyArrow::parquet SYSTEM INTERFACE ${PyArrow_INCLUDE_DIR})
  target_link_libraries(PyArrow::parquet INTERFACE ${PyArrow_LIBRARIES})
endif()
