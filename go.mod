module cbproxy

go 1.26
