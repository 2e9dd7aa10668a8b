#pragma once
#include <cstdint>
#include <string_view>

namespace zerostep {

// Memory of a GPU that cuBLAS keeps for the products of one stream of a thread. CUBLAS_WORKSPACE_CONFIG says how much, as ":KIB:COUNT"
// once or several times; cuBLAS's own choice depends on the GPU.
constexpr const char* kBlasWorkspaceVariable = "CUBLAS_WORKSPACE_CONFIG";
constexpr const char* kBlasWorkspace = ":4096:8";  // what cuBLAS is given where the variable is not set; its results repeat with it

// Bytes of what the variable says. InputError where that is nothing which cuBLAS takes.
int64_t blas_workspace_bytes(std::string_view says);
// Of this process.
int64_t blas_workspace_bytes();
// Sets the variable where it is not set. At the start of a program, before other threads may read the environment.
void set_blas_workspace();

}  // namespace zerostep
