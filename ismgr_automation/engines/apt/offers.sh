# What signed indexes know of packages, for scripts that come after it in one text; installs nothing.

# versions that are offered and not installed, of the packages that are named on standard input: name, version, whether
# apt would choose it, place
versions() {
    xargs -r apt-cache policy | awk '
        /^[^ ]/ { name = substr($0, 1, length($0) - 1); next }
        /^  Candidate: / { candidate = $2; next }
        /^ \*\*\* / { version = ""; next }
        /^     [^ ]/ { version = $1; next }
        /^        / && version != "" && $2 != "/var/lib/dpkg/status" {
            sub(/^ +-?[0-9]+ /, "")
            printf "%s\t%s\t%d\t%s\n", name, version, version == candidate, $0
        }'
}
