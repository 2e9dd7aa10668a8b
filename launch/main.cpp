#include "launch/program.h"

int main(int argc, char** argv) { return zerostep::run_program(argc, argv); }
