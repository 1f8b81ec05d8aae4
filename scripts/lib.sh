# Shared by the scripts of this folder; sourced, never run.
# Sets the working directory to the project's and `target` to cargo's output folder.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# An installation that this shell does not know yet.
[ -d "$HOME/.cargo/bin" ] && case ":$PATH:" in *":$HOME/.cargo/bin:"*) ;; *) PATH="$HOME/.cargo/bin:$PATH" ;; esac
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Without a Rust toolchain that is new enough: says what to install, and gives up.
need_cargo() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    local install="    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
    . \"\$HOME/.cargo/env\""
    command -v cargo >/dev/null || die "cargo was not found. Rust $wanted or newer is needed; this installs it:
$install"
    have=$(rustc --version | cut -d' ' -f2)
    [ -n "$have" ] || die "cargo is there, but rustc does not run. With rustup: rustup default stable"
    [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n1)" = "$wanted" ] ||
        die "Rust $have is too old: $wanted or newer is needed. With rustup: rustup update stable. Without:
$install"
}

# need COMMAND[=PACKAGE] …: installs with apt-get what is missing, as root or through sudo, and says so.
need() {
    local item packages=()
    for item in "$@"; do
        command -v "${item%%=*}" >/dev/null && continue
        case " ${packages[*]-} " in *" ${item#*=} "*) ;; *) packages+=("${item#*=}") ;; esac
    done
    [ ${#packages[@]} -eq 0 ] && return
    command -v apt-get >/dev/null ||
        die "Missing: ${packages[*]} (Debian's package names). Install them with this system's package manager."
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "Missing: ${packages[*]}. Install them as root: apt-get install -y ${packages[*]}"
        as_root=(sudo)
    fi
    say "Installing ${packages[*]} with ${as_root[*]:+sudo }apt-get …"
    {
        "${as_root[@]}" apt-get update -q &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
    } >&2 || die "apt-get could not install ${packages[*]}."
}

# What building needs beside Rust: zlib-ng, a dependency of Pingora's, is built by cmake.
need_compiler() { need cc=build-essential make=build-essential cmake; }

# COUNT ports of 127.0.0.1 that nobody listens on now.
free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*[s.getsockname()[1] for s in held])
PYTHON
}

# wait_for SECONDS PID COMMAND…: until the command succeeds; fails when time is up or the process is gone.
wait_for() {
    local tries=$(($1 * 10)) pid=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $((tries -= 1)) -gt 0 ] && kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.1
    done
}

# Ends what was started: stop PID …
stop() {
    local pid
    for pid in "$@"; do kill "$pid" 2>/dev/null || true; done
    for pid in "$@"; do wait "$pid" 2>/dev/null || true; done
}
