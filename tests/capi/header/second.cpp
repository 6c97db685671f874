#include "second.c"
