#include "first.c"
