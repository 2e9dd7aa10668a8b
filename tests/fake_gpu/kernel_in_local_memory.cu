// A kernel with an array whose indices are not constant, and which so lies in local memory: what builds kernels refuses it.
__global__ void look_up(int* values) {
  int table[64];
  for (int i = 0; i < 64; ++i) table[i] = values[i];
  for (int i = 0; i < 64; ++i) values[i] = table[values[64 + i] & 63];
}
