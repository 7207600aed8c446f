# Turns the /*man block of a source into man(7), with what the rows of the same folder say in
# $rows (see mkrows.awk): rows="$(awk -f mkrows.awk *.c)" awk -v name=mod_gzip -f mkman.awk mod_gzip.c
# Fails when a row has no entry or an entry no row.

# What is to be read as it stands.
function plain(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); return s }

function option_lines(entry,    i) {
    print ".br\nOptions, with their defaults:"
    for (i = 1; i <= n_options[entry]; i++)
        print ".br\n" plain(option[entry, i])
}

function entry_head(entry) {
    printf ".TP\n.B %s\n.br\n", entry
    if (syntax[entry] != entry) print "Syntax: " plain(syntax[entry])
    if (init[entry] != "") print ".br\nDefault: " plain(init[entry])
    if (n_options[entry] > 0) option_lines(entry)
    if (where[entry] != "") print ".br\nWhere: " where[entry]
    print ".IP"
}

function variables_list(    i) {
    for (i = 1; i <= n_variables; i++) print variable[i]
    n_variables = 0
}

BEGIN {
    n = split(ENVIRON["rows"], line, "\n")
    for (i = 1; i <= n; i++) {
        split(line[i], f, "\t")
        if (f[1] == "row") {
            want[f[2]] = 1
            syntax[f[2]] = f[3]
            init[f[2]] = f[4]
            where[f[2]] = f[5]
        } else if (f[1] == "option")
            option[f[2], ++n_options[f[2]]] = f[3] "=" (f[4] != "" ? f[4] : "...") "  " f[5]
        else if (f[1] == "variable")
            variable[++n_variables] = ".TP\n.B %{" f[2] "}\n" plain(toupper(substr(f[5], 1, 1)) substr(f[5], 2)) \
                ". Type: " f[3] ". Known when " f[4] "."
    }
}
/^\/\*man/ { on = 1; printf ".TH %s 8 \"\" sluice\n", toupper(name); next }
on && /^\*\// { on = 0; seen = 1; next }
!on { next }
/^[A-Z][A-Z ]*$/ {
    if (section == "VARIABLES") variables_list()
    if ($0 == "EXAMPLE" && n_variables > 0) { print ".SH VARIABLES"; variables_list() }
    section = $0
    printf ".SH %s\n", $0
    if (section == "EXAMPLE") print ".nf"
    next
}
/^  [A-Za-z][A-Za-z0-9]*$/ && (section == "DIRECTIVES" || section == "SECTIONS") {
    entry = $1
    if (!(entry in want)) { printf "%s:%d: %s is documented but does not exist\n", FILENAME, FNR, entry > "/dev/stderr"; bad = 1 }
    delete want[entry]
    entry_head(entry)
    next
}
{
    line_text = $0
    sub(/^    /, "", line_text)
    line_text = plain(line_text)
    if (line_text ~ /^[.']/) line_text = "\\&" line_text
    if (section != "EXAMPLE" && line_text ~ /^ *$/) { print (section == "DIRECTIVES" || section == "SECTIONS" ? ".IP" : ".PP"); next }
    if (section != "EXAMPLE" && line_text ~ /^    /) { # a line of an example within text
        sub(/^ +/, "", line_text)
        print ".br\n\\ \\ \\ \\ " line_text "\n.br"
        next
    }
    print line_text
}
END {
    if (section == "EXAMPLE") print ".fi"
    if (n_variables > 0) { if (section != "VARIABLES") print ".SH VARIABLES"; variables_list() }
    printf ".SH SEE ALSO\n.BR sluice (8),\n.BR %s (8)\n", name == "sluice-core" ? "mod_route" : "sluice\\-core"
    if (!seen) { printf "%s: no /*man block\n", FILENAME > "/dev/stderr"; bad = 1 }
    for (w in want) { printf "%s: %s has no manual entry\n", FILENAME, w > "/dev/stderr"; bad = 1 }
    exit bad
}
