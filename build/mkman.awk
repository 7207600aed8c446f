# Turns the /*man block of a source into man(7), and compares it with the rows of the same
# folder: awk -v name=mod_gzip -v rows="Gzip GzipTypes" -f mkman.awk mod_gzip.c
# Fails when a row has no entry or an entry no row.
BEGIN { n = split(rows, list, " "); for (i = 1; i <= n; i++) want[list[i]] = 1 }
/^\/\*man/ { on = 1; printf ".TH %s 8 \"\" sluice\n", toupper(name); next }
on && /^\*\// { on = 0; seen = 1; next }
!on { next }
/^[A-Z][A-Z ]*$/ { section = $0; printf ".SH %s\n", $0; next }
/^  [A-Za-z][A-Za-z0-9]*$/ && (section == "DIRECTIVES" || section == "SECTIONS") {
    entry = $1
    if (!(entry in want)) { printf "%s:%d: %s is documented but does not exist\n", FILENAME, FNR, entry > "/dev/stderr"; bad = 1 }
    delete want[entry]
    printf ".TP\n.B %s\n", entry
    next
}
{
    line = $0
    sub(/^    /, "", line)
    gsub(/\\/, "\\e", line)
    if (line ~ /^[.']/) line = "\\&" line
    if (section == "EXAMPLE") { print line "\n.br"; next }
    if (line ~ /^ *$/) { print (section == "DIRECTIVES" || section == "SECTIONS" ? ".IP" : ".PP"); next }
    print line
}
END {
    if (!seen) { printf "%s: no /*man block\n", FILENAME > "/dev/stderr"; bad = 1 }
    for (w in want) { printf "%s: %s has no manual entry\n", FILENAME, w > "/dev/stderr"; bad = 1 }
    exit bad
}
