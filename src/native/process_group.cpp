// Processes that compute together: c10d's store, its groups on Gloo and NCCL, and what they can do.
#define USE_C10D_GLOO

#include "process_group.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>
#include <new>

using textbrewer::guarded;

struct textbrewer_store {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

namespace {

using Milliseconds = std::chrono::milliseconds;

// While one lives, c10d does not tell on standard error, each time with its stack, that others
// cannot be reached yet or any more: who waits for them gets an error in the end. Nothing is
// changed for those who have asked for libtorch's log.
class Quiet {
 public:
  Quiet() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (depth++ == 0 && std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) {
      before = __atomic_exchange_n(&FLAGS_caffe2_log_level, c10::GLOG_FATAL, __ATOMIC_RELAXED);
    }
  }
  ~Quiet() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (--depth == 0 && std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) {
      __atomic_store_n(&FLAGS_caffe2_log_level, before, __ATOMIC_RELAXED);
    }
  }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
  static inline std::mutex mutex;
  static inline int depth = 0;
  static inline int before = 0;
};

template <typename Work>
char* quietly(Work&& work) noexcept {
  return guarded([&] {
    const Quiet quiet;
    work();
  });
}
using BackendOptions = c10::intrusive_ptr<c10d::Backend::Options>;

std::vector<uint8_t> bytes(const uint8_t* data, size_t length) {
  return std::vector<uint8_t>(data, data + length);
}

void give(const std::vector<uint8_t>& value, uint8_t** data, size_t* length) {
  *length = value.size();
  *data = static_cast<uint8_t*>(malloc(value.empty() ? 1 : value.size()));
  if (*data == nullptr) {
    throw std::bad_alloc();
  }
  if (!value.empty()) {
    std::memcpy(*data, value.data(), value.size());
  }
}

template <typename Function>
Function symbol(const char* name) {
  void* found = dlsym(RTLD_DEFAULT, name);
  TORCH_CHECK(
      found != nullptr,
      "this libtorch has no NCCL whose constructor is known here; libtorch 2.11 for CUDA has");
  return reinterpret_cast<Function>(found);
}

// Memory for an object of libtorch's that is not more than a few kilobytes large. Its constructor
// writes what it needs.
void* room() {
  constexpr size_t size = 16384;
  return std::memset(::operator new(size), 0, size);
}

constexpr const char* nccl_options = "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb";
constexpr const char* nccl_group =
    "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34"
    "intrusive_target_default_null_typeIS3_EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE";

// c10d has no factory for NCCL, and its header needs those of CUDA and NCCL. The two constructors
// are found by name; everything else goes through virtual functions of `Backend`. So one program
// works with libtorch for the CPU and for CUDA.
c10::intrusive_ptr<c10d::Backend> nccl(
    const c10::intrusive_ptr<c10d::Store>& store,
    int rank,
    int size,
    Milliseconds timeout) {
  auto options_at = symbol<void (*)(void*, bool)>(nccl_options);
  auto group_at =
      symbol<void (*)(void*, c10::intrusive_ptr<c10d::Store>, int, int, BackendOptions)>(nccl_group);
  void* options_room = room();
  try {
    options_at(options_room, false);
  } catch (...) {
    ::operator delete(options_room);
    throw;
  }
  auto options =
      BackendOptions::unsafe_steal_from_new(static_cast<c10d::Backend::Options*>(options_room));
  options->timeout = timeout;
  void* group_room = room();
  try {
    group_at(group_room, store, rank, size, options);
  } catch (...) {
    ::operator delete(group_room);
    throw;
  }
  return c10::intrusive_ptr<c10d::Backend>::unsafe_steal_from_new(
      static_cast<c10d::Backend*>(group_room));
}

// Gloo binds to `address` if there is one.
c10::intrusive_ptr<c10d::ProcessGroupGloo::Options> gloo_options(
    const char* address,
    Milliseconds timeout) {
  using Gloo = c10d::ProcessGroupGloo;
  if (address == nullptr) {
    return Gloo::Options::create_default(timeout);
  }
  auto options = Gloo::Options::create(timeout);
  options->devices.push_back(Gloo::createDeviceForHostname(address));
  return options;
}

// Calls `start` with each tensor as libtorch's collectives take it, and waits for all of them.
template <typename Start>
void collective(at::Tensor* const* tensors, size_t count, Start&& start) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> originals, contiguous;
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  for (size_t i = 0; i < count; i++) {
    originals.push_back(tensors[i]->detach());
    contiguous.push_back(originals.back().contiguous());
    if (contiguous.back().numel() > 0) {
      std::vector<at::Tensor> one{contiguous.back()};
      works.push_back(start(i, one));
    }
  }
  for (auto& work : works) {
    work->wait();
  }
  for (size_t i = 0; i < count; i++) {
    if (!contiguous[i].is_same(originals[i]) && !originals[i].is_contiguous()) {
      originals[i].copy_(contiguous[i]);
    }
  }
}

} // namespace

extern "C" {

char* textbrewer_store_new(
    const char* host,
    uint16_t port,
    bool is_server,
    int64_t timeout,
    textbrewer_store** made) {
  return quietly([&] {
    *made = nullptr;
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_server;
    // Who comes is looked at with messages of ours.
    options.waitWorkers = false;
    // A program may have several groups.
    options.multiTenant = is_server;
    options.timeout = Milliseconds(timeout);
    *made = new textbrewer_store{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

void textbrewer_store_free(textbrewer_store* store) {
  delete store;
}

char* textbrewer_store_port(const textbrewer_store* store, uint16_t* port) {
  return guarded([&] { *port = store->store->getPort(); });
}

char* textbrewer_store_set(
    textbrewer_store* store,
    const char* key,
    const uint8_t* value,
    size_t length) {
  return quietly([&] { store->store->set(key, bytes(value, length)); });
}

// Sets the value if there is none, and returns what is there then.
char* textbrewer_store_set_first(
    textbrewer_store* store,
    const char* key,
    const uint8_t* value,
    size_t length,
    uint8_t** there,
    size_t* there_length) {
  return quietly([&] {
    give(store->store->compareSet(key, {}, bytes(value, length)), there, there_length);
  });
}

char* textbrewer_store_add(textbrewer_store* store, const char* key, int64_t* number) {
  return quietly([&] { *number = store->store->add(key, *number); });
}

char* textbrewer_store_has(textbrewer_store* store, const char* key, bool* has) {
  return quietly([&] { *has = store->store->check({key}); });
}

// Waits until the key is there.
char* textbrewer_store_get(
    textbrewer_store* store,
    const char* key,
    int64_t timeout,
    uint8_t** value,
    size_t* length) {
  return quietly([&] {
    store->store->wait({key}, Milliseconds(timeout));
    give(store->store->get(key), value, length);
  });
}

void textbrewer_free_bytes(uint8_t* data) {
  free(data);
}

// Fails if this process could not be one of a group.
char* textbrewer_group_check(const char* address, int device) {
  return guarded([&] {
    gloo_options(address, Milliseconds(1));
    if (textbrewer::device(device).is_cuda()) {
      symbol<void*>(nccl_options);
      symbol<void*>(nccl_group);
    }
  });
}

// A CUDA device gets NCCL beside Gloo.
char* textbrewer_group_new(
    const textbrewer_store* store,
    const char* prefix,
    int rank,
    int size,
    int64_t timeout,
    const char* address,
    int device,
    textbrewer_group** made) {
  return quietly([&] {
    *made = nullptr;
    using Group = c10d::ProcessGroup;
    const auto limit = Milliseconds(timeout);
    c10::intrusive_ptr<c10d::Store> base =
        c10::make_intrusive<c10d::PrefixStore>(prefix, store->store);
    auto part = [&](const char* name) -> c10::intrusive_ptr<c10d::Store> {
      return c10::make_intrusive<c10d::PrefixStore>(name, base);
    };
    auto group = c10::make_intrusive<Group>(base, rank, size);
    group->setDefaultBackend(Group::BackendType::GLOO);
    group->setBackend(
        c10::DeviceType::CPU,
        Group::BackendType::GLOO,
        c10::make_intrusive<c10d::ProcessGroupGloo>(
            part("gloo"), rank, size, gloo_options(address, limit)));
    const auto where = textbrewer::device(device);
    if (where.is_cuda()) {
      c10::impl::VirtualGuardImpl(where.type()).setDevice(where);
      group->setBackend(
          c10::DeviceType::CUDA, Group::BackendType::NCCL, nccl(part("nccl"), rank, size, limit));
      group->setBoundDeviceId(where);
    }
    *made = new textbrewer_group{std::move(group)};
  });
}

void textbrewer_group_free(textbrewer_group* group) {
  delete group;
}

// 0: sum, 1: mean, 2: least, 3: largest. In place.
char* textbrewer_all_reduce(
    textbrewer_group* group,
    at::Tensor* const* tensors,
    size_t count,
    int operation) {
  return guarded([&] {
    using Op = c10d::ReduceOp;
    const Op::RedOpType operations[] = {Op::SUM, Op::AVG, Op::MIN, Op::MAX};
    TORCH_CHECK(operation >= 0 && operation < 4, "no reduction has the number ", operation);
    c10d::AllreduceOptions options;
    options.reduceOp = operations[operation];
    collective(tensors, count, [&](size_t, std::vector<at::Tensor>& tensor) {
      return group->group->allreduce(tensor, options);
    });
  });
}

char* textbrewer_broadcast(
    textbrewer_group* group,
    at::Tensor* const* tensors,
    const int* roots,
    size_t count) {
  return guarded([&] {
    collective(tensors, count, [&](size_t i, std::vector<at::Tensor>& tensor) {
      c10d::BroadcastOptions options;
      options.rootRank = roots[i];
      return group->group->broadcast(tensor, options);
    });
  });
}

// `all` is flat, with as many elements as `tensor` has in all processes.
char* textbrewer_all_gather(
    textbrewer_group* group,
    at::Tensor* all,
    const at::Tensor* tensor) {
  return guarded([&] {
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> inputs{tensor->detach().contiguous()};
    if (inputs[0].numel() == 0) {
      return;
    }
    const auto rows = all->detach().view({group->group->getSize(), inputs[0].numel()});
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (const auto& row : rows.unbind(0)) {
      outputs[0].push_back(row.view(inputs[0].sizes()));
    }
    group->group->allgather(outputs, inputs)->wait();
  });
}
}
