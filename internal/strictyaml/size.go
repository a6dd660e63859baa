package strictyaml

import "strconv"

// Size is a number of bytes.
type Size int64

// String returns the size in the largest unit that divides it, such as 64KiB. Without one it returns the number.
func (s Size) String() string {
	for _, unit := range []string{"GiB", "MiB", "KiB"} {
		if n := Size(sizeUnits[unit]); s != 0 && s%n == 0 {
			return strconv.FormatInt(int64(s/n), 10) + unit
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
