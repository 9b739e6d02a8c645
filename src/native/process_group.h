// What stands behind the handles of process groups.
#pragma once

#include "common.h"

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

// Freed when the last of the group and its reducers is.
struct textbrewer_group {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
};
