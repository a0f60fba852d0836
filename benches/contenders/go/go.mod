module switchmark/contenders/go

go 1.19
