module github.com/edged-io/edged

go 1.26
