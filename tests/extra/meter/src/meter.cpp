// Counts the operators that libtorch runs on this thread, and the bytes of its tensors.
//
// Both use what libtorch's own profiler is built on: a callback at every call through the
// dispatcher, and the allocator's reports to the profiler of the thread.

#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace {

struct Bytes : c10::MemoryReportingInfoBase {
    int64_t now = 0, peak = 0, allocations = 0;

    void reportMemoryUsage(void *, int64_t size, size_t, size_t, c10::Device) override {
        now += size;
        peak = std::max(peak, now);
        allocations += size > 0;
    }
    bool memoryProfilingEnabled() const override { return true; }
};

struct Meter {
    std::map<std::string, int64_t> operators;
    std::shared_ptr<Bytes> bytes = std::make_shared<Bytes>();
    std::unique_ptr<c10::DebugInfoGuard> guard;
    at::CallbackHandle callback;
};

thread_local std::unique_ptr<Meter> meter;

std::unique_ptr<at::ObserverContext> count(const at::RecordFunction &function) {
    if (meter) ++meter->operators[function.name()];
    return nullptr;
}

} // namespace

extern "C" {

int torch_meter_start() {
    try {
        if (meter) return 1;
        auto started = std::make_unique<Meter>();
        started->guard = std::make_unique<c10::DebugInfoGuard>(
            c10::DebugInfoKind::PROFILER_STATE, started->bytes);
        started->callback = at::addThreadLocalCallback(
            at::RecordFunctionCallback(&count).scopes({at::RecordScope::FUNCTION}));
        meter = std::move(started);
        return 0;
    } catch (...) {
        return 1;
    }
}

// What waiting for a CUDA device is from now on: 0 is allowed, 1 warned of, 2 an error. Returns
// 1 where no library of libtorch's for CUDA is loaded.
//
// It is what `torch.cuda.set_sync_debug_mode` sets: the one number of the variable behind
// `c10::cuda::warning_state()` in c10/cuda/CUDAFunctions.h, a header that needs CUDA's own. The
// function is inline, so each library has the variable, and the loader makes them one. It is
// looked for at run time, so that nothing of CUDA has to be there to link.
int torch_meter_set_waiting(int mode) {
    auto *state = static_cast<int *>(
        dlsym(RTLD_DEFAULT, "_ZZN3c104cuda13warning_stateEvE14warning_state_"));
    if (state == nullptr) return 1;
    *state = mode;
    return 0;
}

// Ends the measurement: the numbers go to `numbers`, each operator to `each`.
void torch_meter_stop(int64_t numbers[3], void (*each)(void *, const char *, int64_t), void *context) {
    if (!meter) return;
    auto stopped = std::move(meter);
    at::removeCallback(stopped->callback);
    stopped->guard.reset();
    numbers[0] = stopped->bytes->allocations;
    numbers[1] = stopped->bytes->now;
    numbers[2] = stopped->bytes->peak;
    for (const auto &[name, calls] : stopped->operators) each(context, name.c_str(), calls);
}
}
