package optionfile

import "runtime"

// hasPermissions: the mode of a file says who may write to it.
const hasPermissions = runtime.GOOS != "windows"
