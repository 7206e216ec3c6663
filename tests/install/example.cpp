// The library from C++: the header alone, and what a header of a model says before any weight is read.
//
//   example_cpp MODEL
#include <exitlm.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <vector>

struct free_loader {
    void operator()(exitlm_loader *loader) const { exitlm_loader_free(loader); }
};

int main(int argc, char **argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: example_cpp MODEL\n");
        return 2;
    }
    exitlm_error error{};
    exitlm_load_options options{};
    options.header_only = true;
    exitlm_loader *made = nullptr;
    if (exitlm_loader_create(&made, &options, &error) != EXITLM_OK) {
        std::fprintf(stderr, "example_cpp: %s\n", error.message);
        return 1;
    }
    std::unique_ptr<exitlm_loader, free_loader> loader(made);

    std::ifstream file(argv[1], std::ios::binary);
    std::vector<char> bytes(1 << 16);
    exitlm_load_state state{};
    do {
        file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        if (file.gcount() == 0) break;
        if (exitlm_loader_push(loader.get(), bytes.data(), static_cast<std::size_t>(file.gcount()), &error) != EXITLM_OK) {
            std::fprintf(stderr, "example_cpp: %s\n", error.message);
            return 1;
        }
        exitlm_loader_state(loader.get(), &state);
    } while (!state.header_ready);
    if (!state.header_ready) {
        std::fprintf(stderr, "example_cpp: %s ends before its header does\n", argv[1]);
        return 1;
    }

    std::uint64_t model_bytes = 0, session_bytes = 0;
    if (exitlm_loader_memory(loader.get(), nullptr, &model_bytes, &session_bytes, &error) != EXITLM_OK) {
        std::fprintf(stderr, "example_cpp: %s\n", error.message);
        return 1;
    }
    exitlm_model_info info{};
    exitlm_model_describe(exitlm_loader_model(loader.get()), &info);
    std::printf("%s: %u layers, %llu MB and %llu MB a session\n", info.architecture, info.layers,
                static_cast<unsigned long long>(model_bytes / 1000000), static_cast<unsigned long long>(session_bytes / 1000000));
}
